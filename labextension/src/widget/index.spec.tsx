import { act, fireEvent, screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { realisticRows } from '../testing/fixtures';
import { MockBackend } from '../testing/mock';
import { FakeModel } from '../testing/model';
import { namesShown, rest, rowOfName } from '../testing/show';
import type { IQuery } from '../view';
import widget from './index';

describe('the widget', () => {
  let model: FakeModel;
  let el: HTMLElement;
  let end: () => void;
  const kernel = new MockBackend(realisticRows());

  beforeEach(async () => {
    model = new FakeModel({ filter: '', selected: '', confirm_release: true, magic_code: false });
    model.onSend = ({ id, method, params }) => {
      const answers: Record<string, () => Promise<unknown>> = {
        list: () => kernel.list(params.query as IQuery),
        info: () => kernel.info(params.name as string),
        preview: () => kernel.preview(params.name as string),
        attach: () => Promise.resolve(params.variable)
      };
      void answers[method]().then(result => model.emit('msg:custom', { id, result }));
    };
    el = document.createElement('div');
    document.body.append(el);
    act(() => {
      end = widget.render({ model: model as never, el });
    });
    await rest();
  });

  afterEach(() => {
    act(() => end());
    el.remove();
  });

  it('shows the list of the kernel', () => {
    expect(namesShown().length).toBe(12);
    expect(el.className).toBe('jshm-widget');
    expect(el.getAttribute('data-lm-suppress-shortcuts')).toBe('true');
  });

  it('follows the traits', async () => {
    act(() => model.set('filter', 'loss'));
    await rest(200);
    expect(namesShown()).toEqual(['loss']);
    act(() => model.set('selected', 'loss'));
    await rest();
    expect(rowOfName('loss').getAttribute('aria-expanded')).toBe('true');
    act(() => model.set('selected', ''));
    expect(rowOfName('loss').getAttribute('aria-expanded')).toBe('false');
  });

  it('sets the traits', async () => {
    const user = userEvent.setup();
    await user.type(screen.getByRole('searchbox'), 'lo');
    expect(model.get('filter')).toBe('lo');
    await user.click(rowOfName('loss'));
    await rest();
    expect(model.get('selected')).toBe('loss');
    expect(model.saves).toBe(3);
    await user.click(rowOfName('loss'));
    expect(model.get('selected')).toBe('');
  });

  it('attaches in the kernel', async () => {
    const user = userEvent.setup();
    await user.click(rowOfName('preprocess'));
    await user.click(screen.getByText('Attach as'));
    await rest();
    expect(model.sent.find(({ method }) => method === 'attach')).toMatchObject({
      method: 'attach',
      params: { name: 'preprocess', variable: 'preprocess', mode: 'r' }
    });
  });

  it('copies the code that the trait chooses', async () => {
    const user = userEvent.setup();
    const write = vi.spyOn(navigator.clipboard, 'writeText');
    act(() => model.set('magic_code', true));
    await user.click(screen.getByLabelText('Copy the code that attaches X_train'));
    expect(write).toHaveBeenCalledWith('%shm_attach X_train');
  });

  it('asks before a release if the trait says so', async () => {
    fireEvent.click(screen.getByLabelText('Release loss'));
    expect(screen.getByRole('dialog')).toBeTruthy();
    await rest();
  });

  it('shows that it waits, and keeps the list', async () => {
    model.onSend = null;
    act(() => model.emit('msg:custom', { changed: true }));
    await rest(750);
    expect(screen.getByText(/Waiting for the kernel/)).toBeTruthy();
    expect(namesShown().length).toBe(12);
  });

  it('removes everything when it is closed', () => {
    act(() => end());
    expect(el.childNodes.length).toBe(0);
    expect(model.listening).toBe(0);
    end = () => undefined;
  });
});

import { beforeEach, describe, expect, it, vi } from 'vitest';
import { nullTranslator, type IBackend, type IQuery, type IRow } from '../view';
import type { StoreModel } from './model';
import { RunningSection } from './running';
import { page } from './shapes';

const told = vi.hoisted(() => ({ info: vi.fn(), error: vi.fn() }));

vi.mock('@jupyterlab/apputils', () => ({ Notification: told }));
vi.mock('./icon', () => ({ memoryIcon: {} }));

function rows(count: number): Partial<IRow>[] {
  return Array.from({ length: count }, (_, i) => ({
    name: `X${i}`,
    nbytes: 8e9,
    summary: 'float64 (1000, 1000)',
    version: 1
  }));
}

/** A server that answers at most `part` rows at a time. */
function sectionOf(all: Partial<IRow>[], part = 1000) {
  const backend = {
    list: vi.fn(({ offset }: IQuery) =>
      Promise.resolve(page({ total: all.length, rows: all.slice(offset, offset + part) }))
    ),
    release: vi.fn((names: string[]) =>
      Promise.resolve(
        names.map(name => ({
          name,
          nbytes: 8,
          freed: 8,
          heldBy: [],
          neededBy: [],
          undoable: name !== 'X1'
        }))
      )
    ),
    restore: vi.fn((names: string[]) => Promise.resolve(names))
  };
  const model = {
    rows: page({ rows: all.slice(0, 100) }).rows,
    summary: { names: all.length },
    nudge: vi.fn(),
    refresh: vi.fn(() => Promise.resolve())
  };
  const open = vi.fn();
  const section = new RunningSection(
    model as unknown as StoreModel,
    backend as unknown as IBackend,
    open,
    nullTranslator
  );
  return { section, backend, model, open };
}

beforeEach(() => {
  vi.clearAllMocks();
});

describe('the Running section', () => {
  it('says when everything at once cannot be undone', () => {
    const { section, model } = sectionOf(rows(1));
    expect(section.shutdownAllConfirmationText).not.toContain('undone');
    Object.assign(model.summary, { undoLimit: 500 });
    expect(section.shutdownAllConfirmationText).toContain(
      'More than 500 at once cannot be undone.'
    );
  });

  it('lists names with size and type, and opens them', () => {
    const { section, open } = sectionOf(rows(1));
    const [item] = section.running();
    expect(item.label()).toBe('X0');
    expect(item.detail?.()).toBe('8.0 GB · float64 (1000, 1000)');
    item.open?.();
    expect(open).toHaveBeenCalledWith('X0');
  });

  it('does not list what was released, and says how many more there are', () => {
    const { section, open } = sectionOf([{ name: 'old', state: 'released' }, ...rows(139)]);
    const items = section.running();
    expect(items.map(item => item.label())).not.toContain('old');
    const last = items[items.length - 1];
    expect(last.label()).toBe('and 40 more');
    last.open?.();
    expect(open).toHaveBeenCalledWith(null);
  });

  it('releases one name, and offers to take it back', async () => {
    const { section, backend, model } = sectionOf(rows(1));
    section.running()[0].shutdown?.();
    await vi.waitFor(() => {
      expect(model.refresh).toHaveBeenCalled();
    });
    expect(backend.release).toHaveBeenCalledWith(['X0']);
    const [text, { actions }] = told.info.mock.calls[0] as [
      string,
      { actions: { callback(): void }[] }
    ];
    expect(text).toBe('X0 released · 8 B');
    actions[0].callback();
    expect(backend.restore).toHaveBeenCalledWith(['X0']);
  });

  it('offers nothing that cannot be taken back', async () => {
    const { section, backend } = sectionOf(rows(2));
    section.shutdownAll();
    await vi.waitFor(() => {
      expect(told.info).toHaveBeenCalled();
    });
    const [, { actions }] = told.info.mock.calls[0] as [
      string,
      { actions: { callback(): void }[] }
    ];
    actions[0].callback();
    expect(backend.restore).toHaveBeenCalledWith(['X0']);
  });

  it('releases all but what is kept or was released, however many', async () => {
    const all = rows(2500);
    all[3].keep = true;
    all[4].state = 'released';
    const { section, backend } = sectionOf(all);
    section.shutdownAll();
    await vi.waitFor(() => {
      expect(backend.release).toHaveBeenCalledTimes(1);
    });
    const [names] = backend.release.mock.calls[0];
    expect(names).toHaveLength(2498);
    expect(names).not.toContain('X3');
    expect(names).not.toContain('X4');
    expect(backend.list).toHaveBeenCalledTimes(3);
  });

  it('says what failed', async () => {
    const { section, backend } = sectionOf(rows(1));
    backend.list.mockRejectedValue(new Error('no answer'));
    section.shutdownAll();
    await vi.waitFor(() => {
      expect(told.error).toHaveBeenCalledWith('no answer', expect.anything());
    });
  });
});

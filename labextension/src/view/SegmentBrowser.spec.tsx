import { act, cleanup, fireEvent, screen, within } from '@testing-library/react';
import { describe, expect, it, vi } from 'vitest';
import { holder, manyRows, realisticRows, row, who } from '../testing/fixtures';
import { MockBackend } from '../testing/mock';
import { namesShown, rest, rowOfName, show } from '../testing/show';
import { PendingReleases } from './pending';
import { defaultState } from './state';
import { BackendError, type IPage } from './types';

const GROUPED = { state: defaultState };

describe('the list', () => {
  it('shows names with type, version, size and marks', async () => {
    await show(new MockBackend(realisticRows()));
    const text = rowOfName('X_train').textContent;
    for (const part of ['float64 1M×1000', '· v3', '8.0 GB']) {
      expect(text).toContain(part);
    }
    expect(rowOfName('frames').textContent).toContain('LIVE');
    expect(rowOfName('forest').textContent).toContain('only copykept');
    expect(rowOfName('embedding').textContent).toContain('on disk');
    expect(rowOfName('scratch').textContent).toContain('released');
    const holders = within(rowOfName('X_train')).getByRole('img');
    expect(holders.getAttribute('aria-label')).toBe(
      '3 holders: eda.ipynb, report.ipynb, plot.ipynb'
    );
  });

  it('shows how full shared memory is', async () => {
    const backend = new MockBackend([row('a', { nbytes: 12.4e9 })]);
    backend.summary = { free: 19.6e9, capacity: 32e9 };
    await show(backend);
    expect(screen.getByText('12.4 GB used · 19.6 GB free')).toBeTruthy();
    expect(screen.getByRole('img', { name: /Shared memory: 12.4 GB not in use/ })).toBeTruthy();
    expect(screen.getByText('/dev/shm/jshm-1000')).toBeTruthy();
  });

  it('shows the size of spares, which is neither used nor free, and explains it', async () => {
    const backend = new MockBackend([row('a', { nbytes: 4e9 })]);
    backend.summary = { free: 19e9, spares: 2e9, capacity: 32e9 };
    await show(backend);
    const used = screen.getByText('4.0 GB used · 19.0 GB free · 2.0 GB in spares');
    const bar = screen.getByRole('img', { name: /Shared memory/ });
    expect(bar.getAttribute('aria-label')).toBe(
      'Shared memory: 4.0 GB not in use, 2.0 GB in spares, 19.0 GB free, 7.0 GB used by others'
    );
    const widths = [...bar.children].map(part => Number((part as HTMLElement).style.flexGrow));
    expect(widths).toEqual([4e9, 2e9, 19e9, 7e9]);
    expect(used.parentElement?.title).toMatch(/after a minute without use.*JSHM_SPARES/);
  });

  it('does not mention spares if there are none', async () => {
    await show(new MockBackend([row('a')]));
    expect(document.querySelector('.jshm-capacity')?.textContent).not.toContain('spares');
    expect(document.querySelector<HTMLElement>('.jshm-capacity')?.title).not.toMatch(/spares/i);
  });

  it('shows memory without a name apart from old versions', async () => {
    const backend = new MockBackend([row('a')]);
    backend.summary = { unnamed: 5e6 };
    await show(backend);
    expect(screen.getByText('Without a name: 5.0 MB')).toBeTruthy();
    expect(screen.queryByText(/^Old versions/)).toBeNull();
    expect(document.querySelector('.jshm-part.jshm-unnamed')).not.toBeNull();
  });

  it('draws only the rows near the screen, and reads one page', async () => {
    const backend = new MockBackend(manyRows(10_000));
    await show(backend);
    expect(namesShown().length).toBeLessThan(60);
    expect(backend.queries.map(query => [query.offset, query.limit])).toEqual([[0, 200]]);
    expect(screen.getByRole('treegrid').getAttribute('aria-rowcount')).toBe('10000');
  });

  it('reads the page that is scrolled to', async () => {
    const backend = new MockBackend(manyRows(10_000));
    await show(backend);
    const list = screen.getByRole('treegrid');
    list.scrollTop = 5000 * 44;
    fireEvent.scroll(list);
    await rest();
    expect(backend.queries[backend.queries.length - 1].offset).toBe(5000);
    expect(namesShown()).toContain('run/05003/weights');
  });

  it('groups by notebook, and collapses', async () => {
    const { user } = await show(new MockBackend(realisticRows()), GROUPED);
    const groups = () =>
      [...document.querySelectorAll('.jshm-group')].map(each => each.textContent);
    expect(groups()).toEqual([
      'eda.ipynb3 names326.8 MB',
      'old.ipynb(stopped)4 names676.0 MB',
      'train.ipynb5 names9.8 GB'
    ]);
    const before = namesShown().length;
    await user.click(screen.getByText('(stopped)'));
    expect(namesShown().length).toBe(before - 4);
    expect(screen.getByRole('treegrid').getAttribute('aria-rowcount')).toBe(String(3 + 12 - 4));
  });

  it('follows the store', async () => {
    const backend = new MockBackend([row('a')]);
    await show(backend);
    act(() => backend.change([row('a'), row('b')]));
    await rest();
    expect(namesShown()).toEqual(['a', 'b']);
  });

  it('polls while it is on screen', async () => {
    const backend = new MockBackend([row('a')]);
    await show(backend, { pollSeconds: 0.05 });
    await rest(120);
    expect(backend.queries.length).toBeGreaterThanOrEqual(3);
    vi.spyOn(document, 'visibilityState', 'get').mockReturnValue('hidden');
    fireEvent(document, new Event('visibilitychange'));
    const asked = backend.queries.length;
    act(() => backend.change([row('b')]));
    await rest(120);
    expect(backend.queries.length).toBe(asked);
    vi.restoreAllMocks();
    fireEvent(document, new Event('visibilitychange'));
    await rest();
    expect(namesShown()).toEqual(['b']);
  });

  it('drags a row, but not by its buttons', async () => {
    const { host } = await show(new MockBackend([row('a')]));
    fireEvent.mouseDown(within(rowOfName('a')).getByLabelText('Release a'));
    expect(host.drag).not.toHaveBeenCalled();
    fireEvent.mouseDown(rowOfName('a'));
    expect(host.drag.mock.calls[0][0]).toMatchObject({ name: 'a' });
  });

  it('sorts and groups by the menu', async () => {
    const backend = new MockBackend(realisticRows());
    const { user } = await show(backend);
    await user.click(screen.getByRole('button', { name: 'Sort and group' }));
    await user.click(screen.getByRole('menuitemradio', { name: 'Size' }));
    await user.click(screen.getByRole('button', { name: 'Sort and group' }));
    await user.keyboard('{Escape}');
    await rest();
    expect(backend.queries[backend.queries.length - 1]).toMatchObject({
      sort: 'size',
      descending: true
    });
    expect(namesShown()[0]).toBe('X_train');
    expect(screen.queryByRole('menu')).toBeNull();
  });
});

describe('the filter', () => {
  it('sends one request for a word', async () => {
    const backend = new MockBackend(realisticRows());
    const { user } = await show(backend);
    await user.type(screen.getByRole('searchbox'), 'loss');
    expect(backend.queries.length).toBe(1);
    await rest(200);
    expect(backend.queries.map(query => query.filter)).toEqual(['', 'loss']);
    expect(namesShown()).toEqual(['loss']);
  });

  it('can be cleared if nothing matches', async () => {
    const { user } = await show(new MockBackend(realisticRows()), {});
    await user.type(screen.getByRole('searchbox'), 'nonsense');
    await rest(200);
    expect(screen.getByText('Nothing matches “nonsense”.')).toBeTruthy();
    await user.click(screen.getByText('Clear the filter'));
    await rest(200);
    expect(namesShown().length).toBe(12);
  });

  it('follows its property', async () => {
    const onFilter = vi.fn();
    const { user } = await show(new MockBackend(realisticRows()), { filter: 'X_', onFilter });
    expect(namesShown()).toEqual(['X_train']);
    await user.type(screen.getByRole('searchbox'), 't');
    expect(onFilter).toHaveBeenCalledWith('X_t');
  });
});

describe('an opened row', () => {
  it('shows preview, statistics, holders and buttons', async () => {
    const { user, host } = await show(new MockBackend(realisticRows()));
    await user.click(rowOfName('X_train'));
    await rest();
    expect(screen.getByRole('img', { name: /Heatmap of 64 × 128 cells/ })).toBeTruthy();
    expect(screen.getByText('(sample)')).toBeTruthy();
    expect(screen.getByText('train split, standardised')).toBeTruthy();
    expect(
      screen.getByText('8.0 GB shared: one copy, which counts in the RSS of each holder')
    ).toBeTruthy();
    const uses = within(screen.getByRole('list', { name: 'Used by' }));
    expect(uses.getAllByRole('listitem').map(item => item.textContent)).toEqual([
      'eda.ipynb v3',
      'report.ipynb v3 copy on write',
      'plot.ipynb v2 (old, 8.0 GB)'
    ]);
    await user.click(screen.getByRole('button', { name: 'plot.ipynb' }));
    expect(host.open).toHaveBeenCalledWith('plot.ipynb');
    await user.click(screen.getByRole('button', { name: 'Attach in eda.ipynb' }));
    expect(host.insert.mock.calls[0][0]).toMatchObject({ name: 'X_train' });
    await user.click(screen.getByRole('button', { name: 'Copy code' }));
    expect(host.copy).toHaveBeenCalledWith('import jshm\nX_train = jshm.attach("X_train")');
  });

  it('shows what an object needs', async () => {
    const { user } = await show(new MockBackend(realisticRows()));
    await user.click(rowOfName('preprocess'));
    await rest();
    expect(screen.getByRole('region', { name: 'Source' }).textContent).toContain('def preprocess');
    expect(screen.getByText('In[3]')).toBeTruthy();
    expect(screen.getByText('numpy 2.4.6, pandas 3.0.1')).toBeTruthy();
    expect(screen.getByText(/copied by each attach$/)).toBeTruthy();
    expect(screen.getByText('X_train v3 (8.0 GB)')).toBeTruthy();
  });

  it('attaches in this kernel under a name and in a mode', async () => {
    const attach = vi.fn(() => Promise.resolve('data'));
    const { user } = await show(new MockBackend([row('my-data', { writable: true })]), {
      host: { attachCode: () => '', copy: () => Promise.resolve(), attach }
    });
    await user.click(rowOfName('my-data'));
    const variable = screen.getByRole('textbox', { name: 'Variable' });
    expect((variable as HTMLInputElement).value).toBe('my_data');
    await user.clear(variable);
    await user.type(variable, '1x');
    expect(screen.getByText<HTMLButtonElement>('Attach as').disabled).toBe(true);
    await user.clear(variable);
    await user.type(variable, 'data');
    await user.selectOptions(screen.getByRole('combobox', { name: 'Mode' }), 'writable');
    await user.click(screen.getByText('Attach as'));
    expect(attach).toHaveBeenCalledWith('my-data', 'data', 'r+');
    await rest();
    expect(screen.getAllByText('data').length).toBeGreaterThan(0);
  });

  it('names the publisher, also without groups', async () => {
    const { user, host } = await show(new MockBackend(realisticRows()));
    await user.click(rowOfName('forest'));
    expect(screen.getByText(/^From:/).textContent).toBe('From: old.ipynb (stopped)');
    await user.click(screen.getByRole('button', { name: 'old.ipynb' }));
    expect(host.open).toHaveBeenCalledWith('old.ipynb');
  });

  it('loads the preview of a LIVE name again after each change, of others on Refresh', async () => {
    const rows = [row('a', { writable: true }), row('b')];
    const backend = new MockBackend(rows);
    const preview = vi.spyOn(backend, 'preview');
    const { user } = await show(backend);
    for (const [name, looks] of [
      ['a', 2],
      ['b', 1]
    ] as const) {
      preview.mockClear();
      await user.click(rowOfName(name));
      await rest();
      act(() => backend.change([...backend.rows]));
      await rest();
      expect(preview.mock.calls.length, name).toBe(looks);
      await user.click(screen.getByRole('button', { name: 'Refresh' }));
      await rest();
      expect(preview.mock.calls.length, name).toBe(looks + 1);
    }
  });

  it('says that the name is gone, and reads the list again', async () => {
    const backend = new MockBackend([row('a'), row('b')]);
    const { user } = await show(backend);
    backend.rows = [row('b')];
    backend.state++;
    await user.click(rowOfName('a'));
    await rest();
    expect(screen.getByRole('alert').textContent).toContain('There is no a any more.');
    expect(namesShown()).toEqual(['b']);
  });

  it('shows why there is no preview, and the rest', async () => {
    const backend = new MockBackend([row('a')]);
    backend.errors.preview = new BackendError('refused', 'The segment is damaged.');
    const { user } = await show(backend);
    await user.click(rowOfName('a'));
    await rest();
    expect(screen.getByText('The segment is damaged.')).toBeTruthy();
    expect(screen.getByText('Release…')).toBeTruthy();
    backend.errors = {};
    await user.click(screen.getByRole('button', { name: 'Refresh' }));
    await rest();
    expect(screen.queryByText('The segment is damaged.')).toBeNull();
  });
});

/** Seconds for an undo. */
const NEVER = 3600;
const SOON = 0.05;

async function showWith(backend: MockBackend, seconds: number, confirmRelease = false) {
  const pending = new PendingReleases(backend, seconds);
  return show(backend, { confirmRelease, pending });
}

const isReleased = (name: string) => rowOfName(name).className.includes('jshm-releasing');

describe('release', () => {
  it('asks, says who keeps the data, and can be undone', async () => {
    const backend = new MockBackend(realisticRows());
    const { user } = await showWith(backend, NEVER, true);
    await user.click(screen.getByLabelText('Release frames'));
    const dialog = within(screen.getByRole('dialog'));
    expect(dialog.getByRole('heading').textContent).toBe('Release “frames”?');
    expect(
      dialog.getByText(/camera.ipynb uses it and keeps it. The memory \(1.3 GB\)/)
    ).toBeTruthy();
    expect(dialog.getByText(/It is LIVE/)).toBeTruthy();
    await user.click(dialog.getByRole('button', { name: 'Release' }));
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(isReleased('frames')).toBe(true);
    expect(rowOfName('frames').textContent).toContain('released');
    expect(screen.queryByLabelText('Release frames')).toBeNull();
    expect(screen.getByRole('status').textContent).toBe('frames released · 1.3 GB');
    await user.click(screen.getByRole('button', { name: 'Undo' }));
    expect(isReleased('frames')).toBe(false);
    expect(screen.getByLabelText('Release frames')).toBeTruthy();
    expect(screen.getByRole('status').textContent).toBe('frames not released');
    expect(backend.releases).toEqual([]);
  });

  it('warns of an only copy', async () => {
    const { user } = await show(new MockBackend(realisticRows()));
    await user.click(screen.getByLabelText('Release forest'));
    expect(screen.getByText('This is the only copy: the data will be lost.')).toBeTruthy();
    await user.click(screen.getByRole('button', { name: 'Cancel' }));
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(isReleased('forest')).toBe(false);
  });

  it('happens after the time for an undo, and then has no Undo', async () => {
    const backend = new MockBackend([row('a'), row('b')]);
    const { user } = await showWith(backend, SOON);
    await user.click(screen.getByLabelText('Release a'));
    await vi.waitFor(() => expect(namesShown()).toEqual(['b']));
    expect(backend.releases).toEqual([['a']]);
    expect(screen.queryByRole('button', { name: 'Undo' })).toBeNull();
  });

  it('has one bar for each release, however many', async () => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const backend = new MockBackend(names.map(name => row(name)));
    const { user } = await showWith(backend, NEVER);
    for (const name of names) {
      await user.click(screen.getByLabelText(`Release ${name}`));
    }
    expect(names.map(isReleased)).toEqual(names.map(() => true));
    const undo = screen.getAllByRole('button', { name: 'Undo' });
    expect(undo.length).toBe(6);
    await user.click(undo[1]);
    expect(names.filter(name => !isReleased(name))).toEqual(['b']);
  });

  it('does not happen if the view is closed', async () => {
    const backend = new MockBackend([row('a')]);
    const { user } = await showWith(backend, SOON);
    await user.click(screen.getByLabelText('Release a'));
    cleanup();
    await rest(SOON * 2000);
    expect(backend.releases).toEqual([]);
  });

  it('does not happen to a version that the user has not seen', async () => {
    const backend = new MockBackend([row('a')]);
    const { user } = await showWith(backend, SOON);
    await user.click(screen.getByLabelText('Release a'));
    act(() => backend.change([row('a', { version: 2 })]));
    const text = 'a not released: there is a newer version';
    await vi.waitFor(() => expect(screen.getByRole('alert').textContent).toContain(text));
    expect(isReleased('a')).toBe(false);
    expect(namesShown()).toEqual(['a']);
  });

  it('shows its error with the remedies until that is dismissed', async () => {
    const backend = new MockBackend([row('a'), row('b')]);
    backend.errors.release = new BackendError('refused', 'a is locked.', 'Try again.', [
      { action: 'release', names: ['b'], options: { force: true }, purpose: 'Make room' },
      { action: 'detach', names: ['a'], options: {}, purpose: 'Let go here' }
    ]);
    const { user, host } = await showWith(backend, SOON);
    await user.click(screen.getByLabelText('Release a'));
    const alert = await screen.findByRole('alert');
    expect(alert.textContent).toContain('a is locked. Try again.');
    expect(isReleased('a')).toBe(false);
    expect(within(alert).getByText('%shm_detach a')).toBeTruthy();
    await user.click(screen.getByLabelText('Copy %shm_detach a'));
    expect(host.copy).toHaveBeenCalledWith('%shm_detach a');
    backend.errors = {};
    await user.click(within(alert).getByRole('button', { name: 'Release b' }));
    await vi.waitFor(() => expect(namesShown()).toEqual(['a']));
    await user.click(within(alert).getByRole('button', { name: 'Dismiss' }));
    expect(screen.queryByRole('alert')).toBeNull();
  });
});

describe('an open question', () => {
  it('tells of a new version', async () => {
    const backend = new MockBackend([row('a'), row('b')]);
    const { user } = await show(backend);
    await user.click(screen.getByLabelText('Release a'));
    act(() => backend.change([row('a', { version: 2, nbytes: 5e6 }), row('b')]));
    await rest();
    const text = screen.getByRole('dialog').textContent;
    expect(text).toContain('There is a new version now: v2.');
    expect(text).toContain('5.0 MB');
  });

  it.each([
    ['gone', [row('b')]],
    ['released', [row('a', { state: 'released' }), row('b')]]
  ])('closes with a message when the name is %s', async (_, rows) => {
    const backend = new MockBackend([row('a'), row('b')]);
    const { user } = await show(backend);
    await user.click(screen.getByLabelText('Release a'));
    act(() => backend.change(rows));
    await rest();
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(screen.getByRole('alert').textContent).toContain('a is released already.');
  });
});

describe('review', () => {
  it('checks names that are neither kept nor an only copy', async () => {
    const backend = new MockBackend(realisticRows());
    const { user } = await show(backend);
    await user.click(screen.getByText('Review…'));
    await rest();
    const dialog = within(screen.getByRole('dialog'));
    const box = (name: string) => {
      const label = dialog.getByTitle(name).closest('label');
      return within(label as HTMLElement).getByRole<HTMLInputElement>('checkbox');
    };
    expect([box('forest').checked, box('preprocess').checked]).toEqual([false, false]);
    expect([box('loss').checked, box('trades').checked]).toEqual([true, true]);
    expect(dialog.getByText('4 of 7 checked · 113.3 MB')).toBeTruthy();
    await user.click(box('trades'));
    await user.click(box('preprocess'));
    expect(dialog.getByText('4 of 7 checked · 77.3 MB')).toBeTruthy();
    await user.click(dialog.getByRole('button', { name: 'Release 4 names' }));
    expect(isReleased('trades')).toBe(false);
    expect(isReleased('preprocess')).toBe(true);
    expect(screen.getByRole('status').textContent).toBe('4 names released · 77.3 MB');
  });

  it('reads the names up to a limit', async () => {
    const backend = new MockBackend(manyRows(3000));
    const { user } = await show(backend);
    await user.click(screen.getByText('Review…'));
    await rest(300);
    const asked = backend.queries.filter(query => query.unused).map(query => query.offset);
    expect(asked).toEqual([0]);
    expect(screen.getByText('and 1000 more')).toBeTruthy();
  });

  it('opens when the host asks for it', async () => {
    let review: () => void = () => undefined;
    await show(new MockBackend([row('a')]), {
      host: {
        attachCode: () => '',
        copy: () => Promise.resolve(),
        onReview: callback => {
          review = callback;
          return () => undefined;
        }
      }
    });
    act(() => review());
    expect(screen.getByRole('dialog', { name: 'Not in use' })).toBeTruthy();
    await rest();
  });
});

describe('the keyboard', () => {
  const focused = () => document.activeElement?.getAttribute('data-item');

  it('moves among rows, and one row is in the tab order', async () => {
    const { user } = await show(new MockBackend(manyRows(1000)));
    const first = rowOfName('run/00000/weights');
    act(() => first.focus());
    for (const [key, item] of [
      ['ArrowDown', '1'],
      ['ArrowUp', '0'],
      ['End', '999'],
      ['Home', '0'],
      ['PageDown', '1'],
      ['ArrowUp', '0'],
      ['ArrowUp', '0']
    ]) {
      await user.keyboard(`{${key}}`);
      await rest();
      expect(focused(), key).toBe(item);
    }
    expect(document.querySelectorAll('[data-item][tabindex="0"]').length).toBe(1);
  });

  it('opens, closes, releases and filters', async () => {
    const { user } = await show(new MockBackend([row('a'), row('b')]));
    act(() => rowOfName('a').focus());
    await user.keyboard('{Enter}');
    expect(rowOfName('a').getAttribute('aria-expanded')).toBe('true');
    await user.keyboard('{Escape}');
    expect(rowOfName('a').getAttribute('aria-expanded')).toBe('false');
    await user.keyboard(' ');
    expect(rowOfName('a').getAttribute('aria-expanded')).toBe('true');
    await user.keyboard('{ArrowLeft}');
    expect(rowOfName('a').getAttribute('aria-expanded')).toBe('false');
    await user.keyboard('{Delete}');
    expect(screen.getByRole('dialog').textContent).toContain('Release “a”?');
    await user.click(screen.getByRole('button', { name: 'Cancel' }));
    expect(document.activeElement).toBe(rowOfName('a'));
    await user.keyboard('/');
    expect(document.activeElement).toBe(screen.getByRole('searchbox'));
  });

  it('collapses and expands groups', async () => {
    const { user } = await show(new MockBackend(realisticRows()), GROUPED);
    const header = document.querySelector<HTMLElement>('.jshm-group');
    act(() => header?.focus());
    await user.keyboard('{ArrowLeft}');
    expect(header?.getAttribute('aria-expanded')).toBe('false');
    await user.keyboard('{ArrowRight}');
    expect(header?.getAttribute('aria-expanded')).toBe('true');
    await user.keyboard('{ArrowDown}{ArrowLeft}');
    await rest();
    expect(focused()).toBe('0');
  });
});

describe('a changing list', () => {
  const layoutHeight = (list: HTMLElement) =>
    parseFloat(list.querySelector<HTMLElement>('.jshm-sheet')?.style.height ?? '');
  const topOf = (name: string) => parseFloat(rowOfName(name).style.top);

  it('keeps rows with their names, and the focus on its name', async () => {
    const backend = new MockBackend([row('b'), row('c')]);
    const { user } = await show(backend);
    const element = rowOfName('c');
    act(() => element.focus());
    act(() => backend.change([row('a'), row('aa'), row('b'), row('c')]));
    await rest();
    expect(rowOfName('c')).toBe(element);
    expect(document.activeElement).toBe(element);
    await user.keyboard('{Delete}');
    expect(screen.getByRole('dialog').textContent).toContain('Release “c”?');
  });

  it('does nothing on keys when the focused name is gone', async () => {
    const backend = new MockBackend([row('a'), row('b'), row('c')]);
    const { user } = await show(backend);
    act(() => rowOfName('b').focus());
    act(() => backend.change([row('a'), row('c')]));
    await rest();
    expect(document.activeElement).toBe(screen.getByRole('treegrid'));
    await user.keyboard('{Delete}');
    await rest();
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(document.activeElement).toBe(rowOfName('c'));
  });

  it('keeps the first row on screen, the open row and the focus', async () => {
    const backend = new MockBackend(manyRows(1000));
    const { user } = await show(backend);
    await user.click(rowOfName('run/00002/weights'));
    act(() => rowOfName('run/00002/weights').focus());
    await rest();
    const list = screen.getByRole('treegrid');
    list.scrollTop = 20_000;
    fireEvent.scroll(list);
    await rest();
    const name = namesShown()[15] ?? '';
    const place = topOf(name) - list.scrollTop;
    const more = Array.from({ length: 150 }, (_, i) => row(`a/${i}`));
    act(() => backend.change([...more, ...manyRows(1000)]));
    await rest(60);
    expect(topOf(name) - list.scrollTop).toBe(place);
    expect(rowOfName('run/00002/weights').getAttribute('aria-expanded')).toBe('true');
    expect(document.activeElement).toBe(rowOfName('run/00002/weights'));
    act(() => backend.change(manyRows(1000)));
    await rest(60);
    expect(topOf(name) - list.scrollTop).toBe(place);
  });

  it('starts at its top after another query', async () => {
    const { user } = await show(new MockBackend(manyRows(1000)));
    const list = screen.getByRole('treegrid');
    list.scrollTop = 20_000;
    fireEvent.scroll(list);
    await user.type(screen.getByRole('searchbox'), 'run');
    await rest(250);
    expect(list.scrollTop).toBe(0);
  });

  it('scrolls to the row that its property selects, wherever it is', async () => {
    const backend = new MockBackend(manyRows(1000));
    await show(backend, { selected: 'run/00777/weights', state: defaultState });
    await rest(60);
    const list = screen.getByRole('treegrid');
    expect(topOf('run/00777/weights')).toBeGreaterThanOrEqual(list.scrollTop);
    expect(list.scrollTop).toBeGreaterThan(layoutHeight(list) / 2);
    list.scrollTop = 0;
    fireEvent.scroll(list);
    act(() => backend.change([row('a'), ...manyRows(1000)]));
    await rest(60);
    expect(list.scrollTop).toBe(0);
  });

  it('has its details right after their row, and counts them', async () => {
    const { user } = await show(new MockBackend(realisticRows()), GROUPED);
    const count = () => Number(screen.getByRole('treegrid').getAttribute('aria-rowcount'));
    const before = count();
    await user.click(rowOfName('frames'));
    await rest();
    expect(count()).toBe(before + 1);
    const details = rowOfName('frames').nextElementSibling;
    expect(details?.className).toContain('jshm-opened');
    const indices = [...document.querySelectorAll('[aria-rowindex]')].map(each =>
      Number(each.getAttribute('aria-rowindex'))
    );
    expect(indices).toEqual(indices.map((_, i) => indices[0] + i));
  });
});

describe('bad input', () => {
  const HOSTILE = [
    '<img src=x onerror="window.hacked=1">',
    `"'; alert(1) //`,
    'x\u202egnp.exe',
    'a'.repeat(200),
    'two\nlines',
    '{{7*7}} ${1}'
  ];

  it('in names, notes and notebooks is shown as text', async () => {
    const rows = HOSTILE.map(text =>
      row(text, {
        note: text,
        publisher: who(text),
        summary: text,
        dtype: '',
        holders: [holder(text)]
      })
    );
    const { user, host } = await show(new MockBackend(rows));
    expect(namesShown().sort()).toEqual([...HOSTILE].sort());
    for (const name of HOSTILE) {
      await user.click(rowOfName(name));
      await rest();
    }
    expect(document.querySelector('img, script')).toBeNull();
    expect('hacked' in window).toBe(false);
    await user.click(screen.getByRole('button', { name: 'Copy code' }));
    expect(host.copy.mock.calls[0][0]).toMatch(/^import jshm\n\w+ = jshm\.attach\("[^\n]*"\)$/);
  });

  it('shows why there is no list and what to do, and can retry', async () => {
    const backend = new MockBackend([row('a')]);
    backend.errors.list = new BackendError('absent', 'What happened.', 'What to do.');
    const { user } = await show(backend);
    const alert = screen.getByRole('alert').textContent;
    expect(alert).toContain('What happened.What to do.');
    backend.errors = {};
    await user.click(screen.getByRole('button', { name: 'Retry' }));
    await rest();
    expect(namesShown()).toEqual(['a']);
  });

  it('keeps the list without a network, and says so', async () => {
    const backend = new MockBackend([row('a')]);
    await show(backend);
    backend.errors.list = new BackendError('unreachable', 'The server does not answer.');
    act(() => backend.change([row('b')]));
    await rest();
    expect(screen.getByRole('alert').textContent).toContain('The server does not answer.');
    expect(namesShown()).toEqual(['a']);
    backend.errors = {};
    act(() => backend.change([row('b')]));
    await rest();
    expect(screen.queryByRole('alert')).toBeNull();
    expect(namesShown()).toEqual(['b']);
  });

  it('shows what to type if nothing is shared', async () => {
    await show(new MockBackend([]));
    expect(screen.getByText('Nothing is shared yet.')).toBeTruthy();
    expect(screen.getByText(/%load_ext jshm/).textContent).toContain('%shm_publish X');
  });

  it('says that it loads', async () => {
    const backend = new MockBackend([]);
    backend.list = () => new Promise<IPage>(() => undefined);
    await show(backend);
    expect(screen.getByText('Loading…').className).toContain('jshm-loading');
  });

  it('shows notices of the store', async () => {
    const backend = new MockBackend([row('a')]);
    backend.summary.notices = [{ level: 'warning', text: 'The kernels run elsewhere.' }];
    await show(backend);
    expect(screen.getByRole('note').textContent).toBe('The kernels run elsewhere.');
  });
});

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  nullTranslator,
  PendingReleases,
  UNDO_SECONDS,
  type IBackend,
  type IQuery,
  type IReleasable,
  type IRow
} from '../view';
import type { StoreModel } from './model';
import { read } from './read';
import { RunningSection } from './running';

const shown = vi.hoisted(() => ({
  info: vi.fn<(text: string, options: unknown) => string>(() => 'id'),
  error: vi.fn(),
  dismiss: vi.fn()
}));

vi.mock('@jupyterlab/apputils', () => ({ Notification: shown }));
vi.mock('./icon', () => ({ memoryIcon: {} }));

function rows(count: number): Partial<IRow>[] {
  return Array.from({ length: count }, (_, i) => ({
    name: `X${i}`,
    nbytes: 8e9,
    summary: 'float64 (1000, 1000)',
    version: 1
  }));
}

/** A section over a server that answers at most `part` rows at a time. */
function sectionOf(all: Partial<IRow>[], part = 1000) {
  const backend = {
    list: vi.fn(({ offset }: IQuery) =>
      Promise.resolve(read('Page', { total: all.length, rows: all.slice(offset, offset + part) }))
    ),
    release: vi.fn((released: readonly IReleasable[]) =>
      Promise.resolve(released.map(row => read('Released', row)))
    )
  };
  const model = {
    rows: read('Page', { rows: all.slice(0, 100) }).rows,
    summary: { names: all.length },
    changed: { connect: vi.fn() },
    nudge: vi.fn(),
    refresh: vi.fn(() => Promise.resolve())
  };
  const open = vi.fn();
  const section = new RunningSection(
    model as unknown as StoreModel,
    backend as unknown as IBackend,
    new PendingReleases(backend),
    open,
    nullTranslator
  );
  return { section, backend, model, open };
}

const labels = (section: RunningSection) => section.running().map(item => item.label());

beforeEach(() => {
  vi.clearAllMocks();
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

describe('the Running section', () => {
  it('lists names with size and type, and opens them', () => {
    const { section, open } = sectionOf(rows(1));
    const [item] = section.running();
    expect(item.label()).toBe('X0');
    expect(item.detail?.()).toBe('8.0 GB · float64 (1000, 1000)');
    item.open?.();
    expect(open).toHaveBeenCalledWith('X0');
  });

  it('lists no released names, and says how many more there are', () => {
    const { section, open } = sectionOf([{ name: 'old', state: 'released' }, ...rows(139)]);
    const items = section.running();
    expect(items.map(item => item.label())).not.toContain('old');
    const last = items[items.length - 1];
    expect(last.label()).toBe('and 40 more');
    last.open?.();
    expect(open).toHaveBeenCalledWith(null);
  });

  it('releases a name after the time for an undo', async () => {
    const { section, backend, model } = sectionOf(rows(2));
    section.running()[0].shutdown?.();
    expect(labels(section)).toEqual(['X1']);
    expect(shown.info.mock.calls[0][0]).toBe('X0 released · 8.0 GB');
    expect(backend.release).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(UNDO_SECONDS * 1000);
    expect(backend.release.mock.calls[0][0]).toMatchObject([{ name: 'X0', version: 1 }]);
    expect(shown.dismiss).toHaveBeenCalledWith('id');
    expect(model.refresh).toHaveBeenCalled();
  });

  it('says who still holds what is released', () => {
    const held = { ...rows(1)[0], holders: [{ label: 'eda.ipynb' }] } as Partial<IRow>;
    sectionOf([held]).section.running()[0].shutdown?.();
    expect(shown.info.mock.calls[0][0]).toContain('Still held by eda.ipynb');
  });

  it('releases nothing after an undo', async () => {
    const { section, backend } = sectionOf(rows(1));
    section.running()[0].shutdown?.();
    const [, { actions }] = shown.info.mock.calls[0] as unknown as [
      string,
      { actions: { callback(): void }[] }
    ];
    actions[0].callback();
    await vi.advanceTimersByTimeAsync(2 * UNDO_SECONDS * 1000);
    expect(backend.release).not.toHaveBeenCalled();
    expect(labels(section)).toEqual(['X0']);
  });

  it('releases all names but kept and released ones, however many', async () => {
    const all = rows(2500);
    all[3].keep = true;
    all[4].state = 'released';
    const { section, backend } = sectionOf(all);
    section.shutdownAll();
    await vi.advanceTimersByTimeAsync(UNDO_SECONDS * 1000 + 100);
    const names = backend.release.mock.calls[0][0].map(row => row.name);
    expect(names).toHaveLength(2498);
    expect(names).not.toContain('X3');
    expect(names).not.toContain('X4');
    expect(backend.list).toHaveBeenCalledTimes(3);
  });

  it('shows errors, also those of the delayed release', async () => {
    const { section, backend } = sectionOf(rows(1));
    backend.list.mockRejectedValue(new Error('no answer'));
    section.shutdownAll();
    await vi.advanceTimersByTimeAsync(0);
    expect(shown.error).toHaveBeenCalledWith('no answer', expect.anything());
    backend.release.mockRejectedValue(new Error('locked'));
    section.running()[0].shutdown?.();
    await vi.advanceTimersByTimeAsync(UNDO_SECONDS * 1000);
    expect(shown.error).toHaveBeenCalledWith('locked', expect.anything());
    expect(labels(section)).toEqual(['X0']);
  });

  it('says that a name with a newer version is not released', async () => {
    const { section, backend } = sectionOf(rows(1));
    backend.release.mockResolvedValue([]);
    section.running()[0].shutdown?.();
    await vi.advanceTimersByTimeAsync(UNDO_SECONDS * 1000);
    const text = 'X0 not released: there is a newer version';
    expect(shown.error).toHaveBeenCalledWith(text, expect.anything());
  });
});

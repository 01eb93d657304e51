import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PendingReleases, UNDO_SECONDS, type IReleaseHandlers } from './pending';
import type { IReleasable, IReleased } from './types';

const A: IReleasable = { name: 'a', version: 1, nbytes: 8 };
const B: IReleasable = { name: 'b', version: 2, nbytes: 8 };

function released(rows: readonly IReleasable[]): IReleased[] {
  return rows.map(({ name, nbytes }) => ({
    name,
    nbytes,
    freed: nbytes,
    heldBy: [],
    neededBy: []
  }));
}

describe('pending releases', () => {
  let release: ReturnType<typeof vi.fn<(rows: readonly IReleasable[]) => Promise<IReleased[]>>>;
  let pending: PendingReleases;
  let handlers: { [K in keyof IReleaseHandlers]: ReturnType<typeof vi.fn> };

  const seconds = (n: number) => vi.advanceTimersByTimeAsync(n * 1000);
  const names = () => [...pending.names];

  beforeEach(() => {
    vi.useFakeTimers();
    release = vi.fn((rows: readonly IReleasable[]) => Promise.resolve(released(rows)));
    pending = new PendingReleases({ release });
    handlers = { started: vi.fn(), done: vi.fn(), failed: vi.fn() };
  });

  afterEach(() => {
    vi.useRealTimers();
  });

  it('look released at once, and are requested after the time for an undo', async () => {
    const changed = vi.fn();
    const stop = pending.subscribe(changed);
    pending.add([A, B], handlers);
    expect(names()).toEqual(['a', 'b']);
    expect(changed).toHaveBeenCalledTimes(1);
    await seconds(UNDO_SECONDS - 0.1);
    expect(release).not.toHaveBeenCalled();
    await seconds(0.2);
    expect(release.mock.calls).toEqual([[[A, B]]]);
    expect(handlers.started).toHaveBeenCalledTimes(1);
    expect(handlers.done).toHaveBeenCalledWith(released([A, B]));
    stop();
    const calls = changed.mock.calls.length;
    pending.settle();
    expect(changed).toHaveBeenCalledTimes(calls);
  });

  it('stay released until a new list has come', async () => {
    pending.add([A], handlers);
    pending.settle();
    expect(names()).toEqual(['a']);
    await seconds(UNDO_SECONDS + 1);
    expect(names()).toEqual(['a']);
    pending.settle();
    expect(names()).toEqual([]);
  });

  it('can be undone one by one', async () => {
    const undo = pending.add([A], handlers);
    await seconds(1);
    pending.add([B], handlers);
    undo();
    expect(names()).toEqual(['b']);
    await seconds(UNDO_SECONDS + 1);
    expect(release.mock.calls).toEqual([[[B]]]);
    undo();
    expect(names()).toEqual(['b']);
  });

  it('cannot be undone once they are requested', async () => {
    release.mockReturnValue(new Promise(() => undefined));
    const undo = pending.add([A], handlers);
    await seconds(UNDO_SECONDS);
    undo();
    expect(names()).toEqual(['a']);
  });

  it('look normal again after an error', async () => {
    const error = new Error('no answer');
    release.mockRejectedValue(error);
    pending.add([A], handlers);
    await seconds(UNDO_SECONDS);
    expect(names()).toEqual([]);
    expect(handlers.failed).toHaveBeenCalledWith(error);
    expect(handlers.done).not.toHaveBeenCalled();
  });

  it('look normal again if they were not released', async () => {
    release.mockResolvedValue(released([B]));
    pending.add([A, B], handlers);
    await seconds(UNDO_SECONDS);
    expect(names()).toEqual(['b']);
  });
});

import { afterEach, beforeEach, describe, expect, it, vi, type Mock } from 'vitest';
import { BackendError, type IPage, type ISummary } from '../view';
import { StoreModel } from './model';
import { read } from './read';

const SECONDS = 30;

const SUMMARY = read('Summary', { used: 8 });
const PAGE = read('Page', { total: 1, rows: [{ name: 'X' }], summary: { used: 16, names: 1 } });

function sourceOf() {
  return {
    summary: vi.fn<() => Promise<ISummary>>().mockResolvedValue(SUMMARY),
    list: vi.fn<() => Promise<IPage>>().mockResolvedValue(PAGE)
  };
}

function showTab(shown: boolean): void {
  vi.spyOn(document, 'visibilityState', 'get').mockReturnValue(shown ? 'visible' : 'hidden');
  document.dispatchEvent(new Event('visibilitychange'));
}

const soon = () => vi.advanceTimersByTimeAsync(300);

let source: ReturnType<typeof sourceOf>;
let model: StoreModel;
let changed: Mock<() => void>;

beforeEach(() => {
  vi.useFakeTimers();
  source = sourceOf();
  model = new StoreModel(source, SECONDS);
  changed = vi.fn<() => void>();
  model.changed.connect(() => changed());
});

afterEach(() => {
  model.dispose();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe('without watchers', () => {
  it('sends no request and runs no timer', async () => {
    model.nudge();
    await vi.advanceTimersByTimeAsync(10 * SECONDS * 1000);
    expect(source.summary).not.toHaveBeenCalled();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('sends no request after the last watcher has gone', async () => {
    const looks = model.watch();
    await soon();
    looks.dispose();
    source.summary.mockClear();
    await vi.advanceTimersByTimeAsync(10 * SECONDS * 1000);
    expect(source.summary).not.toHaveBeenCalled();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('sends no request in a hidden tab, and one at once when it is shown again', async () => {
    model.watch();
    await soon();
    showTab(false);
    source.summary.mockClear();
    model.nudge();
    await vi.advanceTimersByTimeAsync(10 * SECONDS * 1000);
    expect(source.summary).not.toHaveBeenCalled();
    expect(vi.getTimerCount()).toBe(0);
    showTab(true);
    await soon();
    expect(source.summary).toHaveBeenCalledTimes(1);
  });
});

describe('with watchers', () => {
  it('sends one request at once, and one after each interval', async () => {
    const first = model.watch();
    model.watch();
    await soon();
    expect(source.summary).toHaveBeenCalledTimes(1);
    expect(model.summary?.used).toBe(8);
    expect(changed).toHaveBeenCalledTimes(1);
    first.dispose();
    await vi.advanceTimersByTimeAsync(SECONDS * 1000);
    expect(source.summary).toHaveBeenCalledTimes(2);
  });

  it('sends one request for a burst of events', async () => {
    model.watch();
    await soon();
    for (let i = 0; i < 10; i++) {
      model.nudge();
      await vi.advanceTimersByTimeAsync(10);
    }
    await soon();
    expect(source.summary).toHaveBeenCalledTimes(2);
  });

  it('still sends requests during endless events', async () => {
    model.watch();
    for (let i = 0; i < 40; i++) {
      model.nudge();
      await vi.advanceTimersByTimeAsync(50);
    }
    expect(source.summary.mock.calls.length).toBeGreaterThan(5);
  });

  it('sends another request for an event during a request', async () => {
    let answer: (heard: ISummary) => void = () => undefined;
    source.summary.mockReturnValueOnce(new Promise(resolve => (answer = resolve)));
    model.watch();
    await soon();
    model.nudge();
    answer(read('Summary', { used: 1 }));
    await soon();
    expect(source.summary).toHaveBeenCalledTimes(2);
    expect(model.summary?.used).toBe(8);
  });

  it('drops an answer that comes after a later one', async () => {
    let answer: (heard: ISummary) => void = () => undefined;
    source.summary.mockReturnValueOnce(new Promise(resolve => (answer = resolve)));
    model.watch();
    await soon();
    model.nudge();
    await soon();
    answer(read('Summary', { used: 1 }));
    await soon();
    expect(model.summary?.used).toBe(8);
    expect(changed).toHaveBeenCalledTimes(1);
  });

  it('reads rows only for watchers of rows', async () => {
    const lists = model.watch({ rows: true });
    await soon();
    expect(source.summary).not.toHaveBeenCalled();
    expect(model.rows.map(({ name }) => name)).toEqual(['X']);
    expect(model.summary?.used).toBe(16);
    lists.dispose();
    model.watch();
    await soon();
    expect(source.list).toHaveBeenCalledTimes(1);
    expect(source.summary).toHaveBeenCalledTimes(1);
  });

  it('uses a new interval at once', async () => {
    model.watch();
    await soon();
    model.seconds = 5;
    await vi.advanceTimersByTimeAsync(11_000);
    expect(source.summary.mock.calls.length).toBeGreaterThanOrEqual(3);
  });
});

describe('a server that fails', () => {
  const failing = (reason: BackendError['reason']) =>
    source.summary.mockRejectedValue(new BackendError(reason, 'no'));

  it('is reported once, polled again, and reported when it is back', async () => {
    failing('unreachable');
    model.watch();
    await vi.advanceTimersByTimeAsync(5 * 60_000);
    expect(source.summary.mock.calls.length).toBeGreaterThan(5);
    expect(changed).toHaveBeenCalledTimes(1);
    expect(model.summary).toBeNull();
    source.summary.mockResolvedValue(SUMMARY);
    await vi.advanceTimersByTimeAsync(SECONDS * 1000);
    expect(changed).toHaveBeenCalledTimes(2);
    expect(model.summary?.used).toBe(8);
  });

  it('without the extension is not polled', async () => {
    failing('absent');
    model.watch();
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect(source.summary).toHaveBeenCalledTimes(1);
    source.summary.mockResolvedValue(SUMMARY);
    model.nudge();
    await soon();
    expect(model.summary?.used).toBe(8);
    await vi.advanceTimersByTimeAsync(SECONDS * 1000);
    expect(source.summary).toHaveBeenCalledTimes(3);
  });
});

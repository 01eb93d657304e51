import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeModel } from '../testing/model';
import { BackendError, type IQuery } from '../view';
import { CommBackend } from './comm';

function query(filter: string, offset = 0, unused = false): IQuery {
  const part = { offset, limit: 200 };
  return { filter, sort: 'name', descending: false, grouped: false, unused, ...part };
}

describe('CommBackend', () => {
  let model: FakeModel;
  let backend: CommBackend;

  beforeEach(() => {
    vi.useFakeTimers();
    model = new FakeModel();
    backend = new CommBackend(model);
  });

  afterEach(() => {
    vi.useRealTimers();
  });

  it('sends a message for each method', () => {
    void backend.list(query(''));
    void backend.info('a');
    void backend.preview('a', 2);
    void backend.release([{ name: 'a', version: 2, nbytes: 8 }]);
    void backend.attach('a', 'b', 'c');
    expect(model.sent.map(({ method, params }) => [method, params])).toEqual([
      ['list', { query: query('') }],
      ['info', { name: 'a' }],
      ['preview', { name: 'a', version: 2 }],
      ['release', { names: ['a'], versions: { a: 2 } }],
      ['attach', { name: 'a', variable: 'b', mode: 'c' }]
    ]);
    expect(new Set(model.sent.map(({ id }) => id)).size).toBe(5);
  });

  it('resolves requests in any order', async () => {
    const answers = [backend.info('a'), backend.info('b')];
    model.emit('msg:custom', { id: 'of another view', result: 0 });
    model.reply(1, 'B');
    model.reply(0, 'A');
    expect(await Promise.all(answers)).toEqual(['A', 'B']);
  });

  it('rejects with a BackendError', async () => {
    const answer = backend.info('a');
    const error = { reason: 'missing', message: 'It is gone.', remedies: [] };
    model.emit('msg:custom', { id: model.sent[0].id, error });
    await expect(answer).rejects.toMatchObject(error);
    await expect(answer).rejects.toBeInstanceOf(BackendError);
    const other = backend.info('a');
    model.emit('msg:custom', { id: model.sent[1].id, error: { reason: 'nonsense' } });
    await expect(other).rejects.toMatchObject({ reason: 'refused', message: '' });
  });

  it('waits for a busy kernel without a timeout, and says so', async () => {
    const waiting = vi.fn();
    backend.onWaiting(waiting);
    const answer = backend.info('a');
    vi.advanceTimersByTime(650);
    expect(waiting.mock.calls).toEqual([[false]]);
    vi.advanceTimersByTime(100);
    expect(waiting).toHaveBeenLastCalledWith(true);
    vi.advanceTimersByTime(3_600_000);
    expect(waiting).toHaveBeenCalledTimes(2);
    model.reply(0, 'A');
    expect(waiting).toHaveBeenLastCalledWith(false);
    expect(await answer).toBe('A');
    vi.advanceTimersByTime(10_000);
    expect(waiting).toHaveBeenCalledTimes(3);
  });

  it('sends equal requests once', async () => {
    const answers = [backend.info('a'), backend.info('a'), backend.info('a')];
    expect(model.sent.length).toBe(1);
    model.reply(0, 'A');
    expect(await Promise.all(answers)).toEqual(['A', 'A', 'A']);
    void backend.info('a');
    expect(model.sent.length).toBe(2);
  });

  it('sends only the latest list that was requested during another one, with all its parts', async () => {
    const filters = () => model.sent.map(({ params }) => (params.query as IQuery).filter);
    void backend.list(query('a'));
    void backend.list(query('a', 200));
    const dropped = backend.list(query('ab'));
    dropped.catch(() => undefined);
    const latest = [backend.list(query('abc')), backend.list(query('abc', 200))];
    expect(filters()).toEqual(['a', 'a']);
    await expect(dropped).rejects.toBeInstanceOf(BackendError);
    model.reply(0, 'first');
    expect(filters()).toEqual(['a', 'a']);
    model.reply(1, 'second');
    expect(filters()).toEqual(['a', 'a', 'abc', 'abc']);
    model.reply(2, 'third');
    model.reply(3, 'fourth');
    expect(await Promise.all(latest)).toEqual(['third', 'fourth']);
  });

  it('notifies subscribers until they unsubscribe', () => {
    const changed = vi.fn();
    const end = backend.subscribe(changed);
    model.emit('msg:custom', { changed: true });
    end();
    model.emit('msg:custom', { changed: true });
    expect(changed).toHaveBeenCalledTimes(1);
  });

  it('removes its listeners and timers', () => {
    const waiting = vi.fn();
    backend.onWaiting(waiting);
    void backend.info('a');
    backend.dispose();
    vi.advanceTimersByTime(1000);
    expect(model.listening).toBe(0);
    expect(waiting).toHaveBeenCalledTimes(1);
  });
});

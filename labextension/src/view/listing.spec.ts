import { beforeEach, describe, expect, it, vi } from 'vitest';
import { manyRows, row } from '../testing/fixtures';
import { MockBackend } from '../testing/mock';
import { indexOf, Listing, PAGE_SIZE, rowOf, type Question } from './listing';
import { BackendError, type IPage, type IQuery } from './types';

const QUESTION: Question = { filter: '', sort: 'name', descending: false, grouped: false };

/** Replies when it is told to. */
class SlowBackend extends MockBackend {
  waiting: { query: IQuery; reply: () => Promise<void> }[] = [];

  override list(query: IQuery): Promise<IPage> {
    return new Promise((resolve, reject) => {
      const reply = async () => {
        await super.list(query).then(resolve, reject);
        await settle();
      };
      this.waiting.push({ query, reply });
    });
  }

  async replyAll(): Promise<void> {
    while (this.waiting.length) {
      await this.waiting.shift()?.reply();
    }
  }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) {
    await Promise.resolve();
  }
}

describe('Listing', () => {
  let backend: SlowBackend;
  let listing: Listing;

  beforeEach(async () => {
    backend = new SlowBackend(manyRows(1000));
    listing = new Listing(backend, QUESTION);
    listing.ask(QUESTION);
    await backend.replyAll();
  });

  const pages = () => [...(listing.shown?.pages.keys() ?? [])];

  it('reads the first page', () => {
    expect(listing.shown?.total).toBe(1000);
    expect(pages()).toEqual([0]);
    expect(listing.shown && rowOf(listing.shown, 7)?.name).toBe('run/00007/weights');
    expect(listing.shown && indexOf(listing.shown, 'run/00007/weights')).toBe(7);
  });

  it('reads each visible page once', async () => {
    listing.wanted = () => [1, 2];
    listing.fill();
    listing.fill();
    expect(backend.waiting.map(({ query }) => query.offset)).toEqual([PAGE_SIZE, 2 * PAGE_SIZE]);
    await backend.replyAll();
    expect(pages()).toEqual([0, 1, 2]);
    listing.fill();
    expect(backend.waiting).toEqual([]);
  });

  it('reads one page if nothing changed', async () => {
    listing.wanted = () => [0, 1];
    listing.fill();
    await backend.replyAll();
    listing.refresh();
    await backend.replyAll();
    expect(backend.queries.length).toBe(3);
  });

  it('shows the old list until all visible pages of the new one are loaded', async () => {
    listing.wanted = () => [0, 1];
    listing.fill();
    await backend.replyAll();
    const old = listing.shown;
    backend.change(manyRows(900));
    listing.refresh();
    await backend.waiting.shift()?.reply();
    expect(listing.shown?.state).toBe(old?.state);
    await backend.replyAll();
    expect(listing.shown?.total).toBe(900);
    expect(pages()).toEqual([0, 1]);
  });

  it('drops replies to an old question', async () => {
    listing.ask({ ...QUESTION, filter: 'run/00001' });
    listing.ask({ ...QUESTION, filter: 'run/00002' });
    const [first, second] = backend.waiting.splice(0);
    await second.reply();
    await first.reply();
    expect(listing.shown?.question.filter).toBe('run/00002');
    expect(listing.shown?.total).toBe(1);
  });

  it('refreshes once more for all calls during a refresh', async () => {
    listing.refresh();
    listing.refresh();
    listing.refresh();
    expect(backend.waiting.length).toBe(1);
    await backend.replyAll();
    expect(backend.queries.length).toBe(3);
  });

  it('neither stops nor races if the store changes all the time', async () => {
    vi.useFakeTimers();
    try {
      listing.wanted = () => [0, 1];
      const list = backend.list.bind(backend);
      backend.list = query => {
        backend.state++;
        return list(query);
      };
      listing.fill();
      for (let i = 0; i < 10; i++) {
        await backend.replyAll();
      }
      expect(listing.shown).not.toBeNull();
      expect(backend.queries.length).toBeLessThan(8);
      await vi.advanceTimersByTimeAsync(1000);
      expect(backend.waiting.length).toBe(1);
    } finally {
      vi.useRealTimers();
    }
  });

  it('keeps the list after an error, and drops the error after a success', async () => {
    backend.errors.list = new BackendError('unreachable', 'The server does not answer.');
    listing.refresh();
    await backend.replyAll();
    expect(listing.error?.reason).toBe('unreachable');
    expect(listing.shown?.total).toBe(1000);
    backend.errors = {};
    listing.refresh();
    await backend.replyAll();
    expect(listing.error).toBeNull();
  });

  describe('with rows to follow', () => {
    const NAME = 'run/00190/weights';
    const before = (n: number) => Array.from({ length: n }, (_, i) => row(`a/${1000 + i}`));
    const change = async (rows: ReturnType<typeof before>) => {
      backend.change(rows);
      listing.refresh();
      await backend.replyAll();
    };
    const found = () => (listing.shown ? indexOf(listing.shown, NAME) : -1);

    it('loads them in a newer state, also on the next page', async () => {
      listing.kept = [[NAME, 'run/00191/weights'], []];
      const shown: number[] = [];
      listing.subscribe(() => shown.push(found()));
      await change([...before(20), ...manyRows(1000)]);
      expect(pages()).toEqual([0, 1]);
      expect(shown.filter(index => index !== 190 && index !== 210)).toEqual([]);
      expect(found()).toBe(210);
    });

    it('does not search the store for one that is gone', async () => {
      listing.kept = [[NAME]];
      await change(manyRows(1000).filter(({ name }) => name !== NAME));
      expect(pages()).toEqual([0, 1, 2]);
    });

    it('finds the sought one on any page, and searches once if it is on none', async () => {
      listing.sought = 'run/00950/weights';
      listing.fill();
      await backend.replyAll();
      expect(listing.shown && indexOf(listing.shown, 'run/00950/weights')).toBe(950);
      listing.sought = 'nowhere';
      listing.fill();
      await backend.replyAll();
      const asked = backend.queries.length;
      listing.fill();
      expect(backend.waiting).toEqual([]);
      expect(asked).toBe(1 + 4);
    });

    it('continues from its last page', async () => {
      listing.sought = NAME;
      listing.fill();
      await change([...before(700), ...manyRows(1000)]);
      expect(found()).toBe(890);
    });
  });

  it('is silent after it is disposed', async () => {
    const changed = vi.fn();
    listing.subscribe(changed);
    listing.refresh();
    listing.dispose();
    await backend.replyAll();
    expect(changed).not.toHaveBeenCalled();
  });
});

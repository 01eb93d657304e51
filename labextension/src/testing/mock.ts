/** A backend whose store is a list of rows: filters, sorts, groups and pages as the real one does. */
import {
  BackendError,
  type IBackend,
  type IDetails,
  type IGroup,
  type IPage,
  type IQuery,
  type IReleased,
  type IRow,
  type ISummary,
  type Preview,
  type SortKey
} from '../view';
import { details, summaryOf } from './fixtures';
import { previewOf } from './previews';

const KEYS: Record<SortKey, (row: IRow) => number | string> = {
  name: row => row.name,
  size: row => row.nbytes,
  age: row => -row.created,
  type: row => row.summary,
  holders: row => row.holders.length
};

function compare(a: number | string, b: number | string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function listOf(all: IRow[], query: IQuery): { rows: IRow[]; groups: IGroup[] } {
  const words = query.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const sign = query.descending ? -1 : 1;
  const key = KEYS[query.sort];
  const rows = all
    .filter(row => !query.unused || (row.state === 'current' && !row.holders.length))
    .filter(row => {
      const text = `${row.name} ${row.publisher.label} ${row.note} ${row.summary}`.toLowerCase();
      return words.every(word => text.includes(word));
    })
    .sort((a, b) => sign * compare(key(a), key(b)));
  const groups: IGroup[] = [];
  if (query.grouped) {
    rows.sort((a, b) => compare(a.group, b.group));
    for (const row of rows) {
      let group = groups[groups.length - 1];
      if (group?.id !== row.group) {
        group = { id: row.group, publisher: row.publisher, count: 0, nbytes: 0 };
        groups.push(group);
      }
      group.count++;
      group.nbytes += row.nbytes;
    }
  }
  return { rows, groups };
}

export class MockBackend implements IBackend {
  constructor(public rows: IRow[]) {}

  /** All queries that came. */
  queries: IQuery[] = [];
  /** Thrown by the methods that it is given for. */
  errors: Partial<Record<keyof IBackend, BackendError>> = {};
  summary: Partial<ISummary> = {};
  state = 1;

  list(query: IQuery): Promise<IPage> {
    this.queries.push(query);
    return this.answer('list', () => this.page(query));
  }

  info(name: string): Promise<IDetails> {
    return this.answer('info', () => details(this.find(name)));
  }

  preview(name: string): Promise<Preview> {
    return this.answer('preview', () => previewOf(this.find(name)));
  }

  release(names: string[]): Promise<IReleased[]> {
    return this.answer('release', () => {
      const gone = names.map(name => this.find(name));
      this.released.push(...gone);
      this.change(this.rows.filter(row => !gone.includes(row)));
      return gone.map(({ name, nbytes }) => ({
        name,
        nbytes,
        freed: nbytes,
        heldBy: [],
        neededBy: [],
        undoable: true
      }));
    });
  }

  restore(names: string[]): Promise<string[]> {
    return this.answer('restore', () => {
      const back = this.released.filter(row => names.includes(row.name));
      this.change([...this.rows, ...back]);
      return back.map(row => row.name);
    });
  }

  subscribe(changed: () => void): () => void {
    this.listeners.add(changed);
    return () => this.listeners.delete(changed);
  }

  /** Another state of the store, which the view is told of. */
  change(rows: IRow[]): void {
    this.rows = rows;
    this.state++;
    this.listeners.forEach(changed => changed());
  }

  get subscribers(): number {
    return this.listeners.size;
  }

  private page(query: IQuery): IPage {
    const { rows, groups } = this.sorted(query);
    return {
      state: String(this.state),
      total: rows.length,
      offset: query.offset,
      rows: rows.slice(query.offset, query.offset + query.limit),
      groups,
      summary: { ...summaryOf(this.rows), ...this.summary }
    };
  }

  /** All rows of a list. As the real one, it is fast when the next part of the same is asked for. */
  private sorted(query: IQuery): { rows: IRow[]; groups: IGroup[] } {
    const key = JSON.stringify([{ ...query, offset: 0 }, this.state]);
    if (this.last?.key !== key || this.last.of !== this.rows) {
      this.last = { key, of: this.rows, list: listOf(this.rows, query) };
    }
    return this.last.list;
  }

  private find(name: string): IRow {
    const row = this.rows.find(each => each.name === name);
    if (!row) {
      throw new BackendError('missing', `There is no ${name} any more.`, 'Somebody released it.');
    }
    return row;
  }

  private async answer<T>(method: keyof IBackend, work: () => T): Promise<T> {
    await Promise.resolve();
    const error = this.errors[method];
    if (error) {
      throw error;
    }
    return work();
  }

  private last: { key: string; of: IRow[]; list: ReturnType<typeof listOf> } | null = null;
  private readonly released: IRow[] = [];
  private readonly listeners = new Set<() => void>();
}

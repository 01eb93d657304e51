/** A backend whose store is a list of rows. It filters, sorts, groups and pages them like the real one. */
import {
  BackendError,
  type IBackend,
  type IDetails,
  type IGroup,
  type IPage,
  type IQuery,
  type IReleasable,
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

  /** All queries so far. */
  queries: IQuery[] = [];
  /** The names of all requests to release. */
  releases: string[][] = [];
  /** Errors that methods throw. */
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

  release(rows: readonly IReleasable[]): Promise<IReleased[]> {
    this.releases.push(rows.map(row => row.name));
    return this.answer('release', () => {
      const gone = rows
        .map(({ name, version }) => ({ found: this.find(name), version }))
        .filter(({ found, version }) => found.version <= version)
        .map(({ found }) => found);
      this.change(this.rows.filter(row => !gone.includes(row)));
      return gone.map(({ name, nbytes }) => ({
        name,
        nbytes,
        freed: nbytes,
        heldBy: [],
        neededBy: []
      }));
    });
  }

  subscribe(changed: () => void): () => void {
    this.listeners.add(changed);
    return () => this.listeners.delete(changed);
  }

  /** Change the store, and tell the view. */
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

  /** All rows of a list. The next part of the same list is fast, as in the real store. */
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
      throw new BackendError('missing', `There is no ${name} any more.`, 'It was released.');
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
  private readonly listeners = new Set<() => void>();
}

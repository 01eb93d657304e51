/** The list as far as it was looked at: pages of one state of the store, and when to ask for more. */
import {
  BackendError,
  type IBackend,
  type IGroup,
  type IPage,
  type IQuery,
  type IRow,
  type ISummary
} from './types';

export const PAGE_SIZE = 200;
/** How long to wait before asking again for a store that changes from page to page. */
const RESTLESS_MS = 300;

/** What the list is about. */
export type Question = Pick<IQuery, 'filter' | 'sort' | 'descending' | 'grouped'>;

/** What was learned of one state of the store. */
export interface IListing {
  question: Question;
  state: string;
  total: number;
  groups: IGroup[];
  summary: ISummary;
  pages: Map<number, IRow[]>;
}

export function rowOf(listing: IListing, index: number): IRow | undefined {
  return listing.pages.get(Math.floor(index / PAGE_SIZE))?.[index % PAGE_SIZE];
}

/** Which row a name is, among those that were looked at; -1 if it is not. */
export function indexOf(listing: IListing, name: string): number {
  for (const [page, rows] of listing.pages) {
    const index = rows.findIndex(row => row.name === name);
    if (index >= 0) {
      return page * PAGE_SIZE + index;
    }
  }
  return -1;
}

function firstPage(): number[] {
  return [0];
}

export function asBackendError(error: unknown): BackendError {
  return error instanceof BackendError
    ? error
    : new BackendError('unreachable', error instanceof Error ? error.message : String(error));
}

/**
 * Keeps showing what it has until all that is on screen of a newer state, or of another question, is there.
 */
export class Listing {
  constructor(
    private readonly backend: IBackend,
    private question: Question
  ) {}

  /** What to show. Another object after each change. */
  shown: IListing | null = null;
  error: BackendError | null = null;
  /** The pages that are on screen, were this the list. */
  wanted: (listing: IListing) => Iterable<number> = firstPage;

  subscribe = (changed: () => void): (() => void) => {
    this.listeners.add(changed);
    return () => {
      this.listeners.delete(changed);
    };
  };

  /** Changes with each change of `shown` or `error`. */
  snapshot = (): number => this.changes;

  /** Ask something else; replies to what was asked before are dropped. */
  ask(question: Question): void {
    this.question = question;
    this.wanted = firstPage;
    this.generation++;
    this.asked.clear();
    this.next = null;
    this.again = false;
    this.refresh();
  }

  /** Look whether something changed. Calls while it looks make it look once more. */
  refresh(): void {
    if (this.asked.size) {
      this.again = true;
      return;
    }
    const target = this.shown;
    const pages = target?.question === this.question ? [...this.wanted(target)] : [0];
    void this.load(pages[0] ?? 0);
  }

  /** Ask for what is on screen and not there yet. */
  fill(): void {
    const target = this.next ?? this.shown;
    if (target?.question !== this.question) {
      return;
    }
    const missing = [...this.wanted(target)].filter(page => !target.pages.has(page));
    if (!missing.length && this.next) {
      this.show();
    }
    missing.forEach(page => void this.load(page));
  }

  dispose(): void {
    this.generation++;
    this.listeners.clear();
    clearTimeout(this.timer);
  }

  private async load(page: number): Promise<void> {
    if (this.asked.has(page)) {
      return;
    }
    const { generation, question } = this;
    const turn = ++this.turn;
    this.asked.add(page);
    const offset = page * PAGE_SIZE;
    try {
      const reply = await this.backend.list({
        ...question,
        unused: false,
        offset,
        limit: PAGE_SIZE
      });
      if (generation === this.generation) {
        this.asked.delete(page);
        this.accept(page, reply, turn);
      }
    } catch (error) {
      if (generation === this.generation) {
        this.asked.delete(page);
        this.again = false;
        this.error = asBackendError(error);
        this.notify();
      }
    }
  }

  private accept(page: number, reply: IPage, turn: number): void {
    const { question } = this;
    const { state, total, groups, summary } = reply;
    const target = this.next ?? this.shown;
    const fits = target?.state === state && target.question === question;
    if (!fits && turn < this.newest) {
      this.fill();
      return;
    }
    const restless = !fits && this.next !== null;
    this.newest = Math.max(this.newest, turn);
    this.error = null;
    if (fits) {
      target.pages.set(page, reply.rows);
      target.summary = summary;
    } else {
      this.next = { question, state, total, groups, summary, pages: new Map([[page, reply.rows]]) };
    }
    if (restless) {
      this.show();
      this.timer = setTimeout(() => this.fill(), RESTLESS_MS);
    } else {
      this.fill();
    }
    if (fits && !this.next && this.shown) {
      this.shown = { ...this.shown };
    }
    this.notify();
    if (this.again) {
      this.again = false;
      this.refresh();
    }
  }

  private show(): void {
    this.shown = this.next;
    this.next = null;
    this.notify();
  }

  private notify(): void {
    this.changes++;
    this.listeners.forEach(changed => changed());
  }

  private next: IListing | null = null;
  private asked = new Set<number>();
  private again = false;
  private generation = 0;
  /** Requests are numbered; the latest whose reply was taken. */
  private turn = 0;
  private newest = 0;
  private changes = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private listeners = new Set<() => void>();
}

/** The part of the list that is loaded: pages of one state of the store, and when to load more. */
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
/** Wait for this time before the next request if the store changes between two pages. */
const RESTLESS_MS = 300;
/** The most pages away that a row is searched before the new list is shown. */
const NEAR = 2;
/** The most pages that are searched for the open row. */
const MOST_PAGES = 50;

/** The filter and the order of the list. */
export type Question = Pick<IQuery, 'filter' | 'sort' | 'descending' | 'grouped'>;

/** The loaded part of one state of the store. */
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

/** The index of a name's row; -1 if it is not loaded. */
export function indexOf(listing: IListing, name: string): number {
  for (const [page, rows] of listing.pages) {
    const index = rows.findIndex(row => row.name === name);
    if (index >= 0) {
      return page * PAGE_SIZE + index;
    }
  }
  return -1;
}

/** The page nearest to `home` that is not loaded; undefined if all near pages are loaded. */
function missingPage({ total, pages }: IListing, home: number, reach: number): number | undefined {
  for (let distance = 0; distance <= reach; distance++) {
    for (const page of [home - distance, home + distance]) {
      if (page >= 0 && page * PAGE_SIZE < total && !pages.has(page)) {
        return page;
      }
    }
  }
  return undefined;
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
 * Loads the list. It shows the old state until all visible pages of a newer state, or of another question, are loaded.
 */
export class Listing {
  constructor(
    private readonly _backend: IBackend,
    private _question: Question
  ) {}

  /** The list to show: another object after each change. */
  shown: IListing | null = null;
  error: BackendError | null = null;
  /** The pages of a list that are visible. */
  wanted: (listing: IListing) => Iterable<number> = firstPage;
  /** Lists of names. Of each, one row is loaded in a newer state too, if it has not moved far. */
  kept: readonly string[][] = [];
  /** The name whose row is loaded wherever it is. */
  sought: string | null = null;

  subscribe = (changed: () => void): (() => void) => {
    this._listeners.add(changed);
    return () => {
      this._listeners.delete(changed);
    };
  };

  /** Changes with each change of `shown` or `error`. */
  snapshot = (): number => this._changes;

  /** Load another list; replies to earlier requests are dropped. */
  ask(question: Question): void {
    this._question = question;
    this.wanted = firstPage;
    this.kept = [];
    this._lost = null;
    this._generation++;
    this._asked.clear();
    this._next = null;
    this._again = false;
    this.refresh();
  }

  /** Load the list again if it has changed. A call during a refresh causes one more refresh. */
  refresh(): void {
    if (this._asked.size) {
      this._again = true;
      return;
    }
    const target = this.shown;
    const pages = target?.question === this._question ? [...this.wanted(target)] : [0];
    void this._load(pages[0] ?? 0);
  }

  /** Load the visible pages that are missing. */
  fill(): void {
    const target = this._next ?? this.shown;
    if (target?.question !== this._question) {
      return;
    }
    const missing = [...this.wanted(target)].filter(page => !target.pages.has(page));
    missing.forEach(page => void this._load(page));
    if (missing.length) {
      return;
    }
    if (!this._next) {
      this._seek(target);
      return;
    }
    const strayed = this._strayed(this._next);
    if (strayed !== undefined) {
      void this._load(strayed);
    } else {
      this._show();
      this.fill();
    }
  }

  dispose(): void {
    this._generation++;
    this._listeners.clear();
    clearTimeout(this._timer);
  }

  /** The page to load next, to find rows of `kept` that have moved. */
  private _strayed(next: IListing): number | undefined {
    const { shown } = this;
    for (const names of shown?.question === next.question ? this.kept : []) {
      const places = names.map(name => (shown ? indexOf(shown, name) : -1)).filter(at => at >= 0);
      if (places.length && !names.some(name => indexOf(next, name) >= 0)) {
        const page = missingPage(next, Math.floor(places[0] / PAGE_SIZE), NEAR);
        if (page !== undefined) {
          return page;
        }
      }
    }
    return undefined;
  }

  /** Load pages one by one until the sought name is found; if it is not found, only once. */
  private _seek(shown: IListing): void {
    const { sought } = this;
    if (sought === null || sought === this._lost || this._asked.size) {
      return;
    }
    const index = indexOf(shown, sought);
    if (index >= 0) {
      this._home = Math.floor(index / PAGE_SIZE);
      return;
    }
    const page = missingPage(shown, this._home, shown.pages.size < MOST_PAGES ? shown.total : -1);
    if (page === undefined) {
      this._lost = sought;
    } else {
      void this._load(page);
    }
  }

  private async _load(page: number): Promise<void> {
    if (this._asked.has(page)) {
      return;
    }
    const { _generation: generation, _question: question } = this;
    const turn = ++this._turn;
    this._asked.add(page);
    const offset = page * PAGE_SIZE;
    try {
      const reply = await this._backend.list({
        ...question,
        unused: false,
        offset,
        limit: PAGE_SIZE
      });
      if (generation === this._generation) {
        this._asked.delete(page);
        this._accept(page, reply, turn);
      }
    } catch (error) {
      if (generation === this._generation) {
        this._asked.delete(page);
        this._again = false;
        this.error = asBackendError(error);
        this._notify();
      }
    }
  }

  private _accept(page: number, reply: IPage, turn: number): void {
    const question = this._question;
    const { state, total, groups, summary } = reply;
    const target = this._next ?? this.shown;
    const fits = target?.state === state && target.question === question;
    if (!fits && turn < this._newest) {
      this.fill();
      return;
    }
    const restless = !fits && this._next !== null;
    this._newest = Math.max(this._newest, turn);
    this.error = null;
    if (fits) {
      target.pages.set(page, reply.rows);
      target.summary = summary;
    } else {
      this._next = {
        question,
        state,
        total,
        groups,
        summary,
        pages: new Map([[page, reply.rows]])
      };
    }
    if (restless) {
      this._show();
      this._timer = setTimeout(() => this.fill(), RESTLESS_MS);
    } else {
      this.fill();
    }
    if (fits && !this._next && this.shown) {
      this.shown = { ...this.shown };
    }
    this._notify();
    if (this._again) {
      this._again = false;
      this.refresh();
    }
  }

  private _show(): void {
    this.shown = this._next;
    this._next = null;
    this._notify();
  }

  private _notify(): void {
    this._changes++;
    this._listeners.forEach(changed => changed());
  }

  private _next: IListing | null = null;
  /** The name that was not found, and the page where the sought name was found last. */
  private _lost: string | null = null;
  private _home = 0;
  private _asked = new Set<number>();
  private _again = false;
  private _generation = 0;
  /** The number of the latest request, and of the latest one whose reply was accepted. */
  private _turn = 0;
  private _newest = 0;
  private _changes = 0;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _listeners = new Set<() => void>();
}

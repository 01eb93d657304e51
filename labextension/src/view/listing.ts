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
/** How many pages away a row is looked for before the list that it moved in is shown. */
const NEAR = 2;
/** How many pages are looked through for the open row. */
const MOST_PAGES = 50;

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

/** The page that is nearest to another one among those that are not there; undefined if all near ones are. */
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
 * Keeps showing what it has until all that is on screen of a newer state, or of another question, is there.
 */
export class Listing {
  constructor(
    private readonly _backend: IBackend,
    private _question: Question
  ) {}

  /** What to show. Another object after each change. */
  shown: IListing | null = null;
  error: BackendError | null = null;
  /** The pages that are on screen, were this the list. */
  wanted: (listing: IListing) => Iterable<number> = firstPage;
  /** Names whose rows are to be known in a newer state too, if they have not moved far: of each, one of them. */
  kept: readonly string[][] = [];
  /** The name that is to be found wherever it is. */
  sought: string | null = null;

  subscribe = (changed: () => void): (() => void) => {
    this._listeners.add(changed);
    return () => {
      this._listeners.delete(changed);
    };
  };

  /** Changes with each change of `shown` or `error`. */
  snapshot = (): number => this._changes;

  /** Ask something else; replies to what was asked before are dropped. */
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

  /** Look whether something changed. Calls while it looks make it look once more. */
  refresh(): void {
    if (this._asked.size) {
      this._again = true;
      return;
    }
    const target = this.shown;
    const pages = target?.question === this._question ? [...this.wanted(target)] : [0];
    void this._load(pages[0] ?? 0);
  }

  /** Ask for what is on screen and not there yet. */
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

  /** Where to look for what is kept, and is in another place in a newer state. */
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

  /** Look for the name that is sought, a page at a time; only once, if it is on none of them. */
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
  /** What was sought in vain, and the page where it was found last. */
  private _lost: string | null = null;
  private _home = 0;
  private _asked = new Set<number>();
  private _again = false;
  private _generation = 0;
  /** Requests are numbered; the latest whose reply was taken. */
  private _turn = 0;
  private _newest = 0;
  private _changes = 0;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _listeners = new Set<() => void>();
}

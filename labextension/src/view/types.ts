/**
 * What the view shows and asks for: the same over REST (in Lab) and over a comm (in the widget).
 *
 * The messages are described for other programs in `jshm/server/openapi.yaml`. Sizes are bytes, times are
 * seconds since the epoch, names are what users gave.
 */

/** A process, as people know it. */
export interface IWho {
  /** Its notebook's name, its script's, or what else it is called. */
  label: string;
  /** The path under which Jupyter opens its notebook now; '' if there is none. */
  path: string;
  /** Whether it runs; of a publisher, also when its kernel was restarted since. */
  alive: boolean;
  /** Whether it is the kernel of this very widget. Never, in the panel. */
  here: boolean;
}

export type Mode = 'r' | 'r+' | 'c';

/** A process that has a version mapped. */
export interface IHolder extends IWho {
  mode: Mode;
  pid: number;
}

/** A version of a name that is not its newest, but takes memory because somebody holds it. */
export interface IOldVersion {
  version: number;
  nbytes: number;
  summary: string;
  holders: IHolder[];
}

/** One name. */
export interface IRow {
  name: string;
  /** The newest version, or the newest that is still held of a name that was released. */
  version: number;
  state: 'current' | 'released';
  kind: string;
  /** What it is, as people read it: `float64 (1000, 1000)`, `function train(X, lr=0.1)`. */
  summary: string;
  /** Of an array; else ''. */
  dtype: string;
  shape: number[];
  nbytes: number;
  publisher: IWho;
  /** Id of the group that the row belongs to: rows of one notebook have the same. */
  group: string;
  created: number;
  note: string;
  keep: boolean;
  /** LIVE: others may attach it writable, so it may change at any moment. */
  writable: boolean;
  /** On disk, because shared memory was too small. */
  overflow: boolean;
  /** Nobody holds it and its publisher is gone: releasing it loses the data. */
  onlyCopy: boolean;
  /** Bytes without a name that are there because this refers to them. */
  keeps: number;
  lifetime: 'kept' | 'server' | 'run' | 'process';
  holders: IHolder[];
  older: IOldVersion[];
}

/** The rows of one notebook, which follow one another in a grouped list. */
export interface IGroup {
  id: string;
  publisher: IWho;
  count: number;
  nbytes: number;
}

/** Something that the user should know of the store as a whole. */
export interface INotice {
  level: 'info' | 'warning' | 'error';
  text: string;
}

/** The store as a whole. The five parts of what is used add up to it; spares and what is free come on top. */
export interface ISummary {
  /** The directory. Not to be shown in saved notebooks. */
  where: string;
  names: number;
  used: number;
  /** Of it, newest versions that somebody holds. */
  inUse: number;
  /** Of it, old versions, and released ones that somebody still holds. */
  old: number;
  /** Of it, memory without a name: allocated and not published, or only referred to. */
  unnamed: number;
  /** Of it, what was released a moment ago and can be restored. */
  restorable: number;
  /** Of it, newest versions that nobody holds. Not garbage: they may be the only copy. */
  idle: number;
  idleNames: number;
  /** What kernels keep for what they publish next, and give back where there is need. */
  spares: number;
  free: number;
  /** Size of the file system; memory that is in use elsewhere makes `used + spares + free` less. */
  capacity: number;
  /** Whose lifetime has run out: it goes with the next operation of anybody. */
  leftovers: number;
  /** Bytes on disk, because shared memory was too small. Not a part of `used`. */
  overflow: number;
  notices: INotice[];
  /** How many names at once can be released so that they can be restored. */
  undoLimit: number;
}

export type SortKey = 'name' | 'size' | 'age' | 'type' | 'holders';

export interface IQuery {
  /** Words that must all be in name, notebook, note or type; upper and lower case alike. */
  filter: string;
  sort: SortKey;
  descending: boolean;
  /** Whether rows of one notebook come together. */
  grouped: boolean;
  /** Only names that nobody holds. */
  unused: boolean;
  offset: number;
  limit: number;
}

/** A part of the list. Row `offset + i` of all is `rows[i]`. */
export interface IPage {
  /** Changes whenever anything in the list does; parts of different states do not fit together. */
  state: string;
  total: number;
  offset: number;
  rows: IRow[];
  /** All of them, in the order of their rows; empty unless `grouped`. */
  groups: IGroup[];
  summary: ISummary;
}

/** All that is known of one name. */
export interface IDetails extends IRow {
  order: 'C' | 'F';
  /** First line of an object's docstring. */
  doc: string;
  /** Where an object was defined: `In[3]`, `utils.py`. */
  place: string;
  python: string;
  /** Packages that an object needs, and their versions there. */
  modules: Record<string, string>;
  /** Bytes of an object that are shared, and of which everybody makes his own. */
  shared: number;
  copied: number;
  /** Columns of a table that are copied, because they hold Python objects. */
  columns: string[];
  /** What it refers to, by name and version, and its bytes. */
  references: Record<string, number>;
  /** Names that share state with it, and keep that when they are attached together. */
  together: string[];
}

/** Of a bounded sample, unless `exact`. */
export interface IStats {
  min: number | null;
  max: number | null;
  mean: number | null;
  nan: number;
  /** Values that were looked at, and values that there are. */
  count: number;
  total: number;
  exact: boolean;
  /** Infinite values that were seen, if there are any. Minimum, maximum and mean are of the others. */
  infinite?: number;
  /** Of complex numbers, minimum, maximum and mean are of the magnitude. */
  of?: 'magnitude';
}

/** A picture of some data. Never more than about 100 kB, however large the data. */
export type Preview = (
  | {
      /** One-dimensional numbers: in each of equal stretches, the lowest and highest that were seen. */
      type: 'line';
      low: (number | null)[];
      high: (number | null)[];
      histogram: { counts: number[]; low: number; high: number } | null;
    }
  | {
      /** Two-dimensional numbers: row by row, base64 of bytes, 0 (`low`) to 254 (`high`), 255 is NaN. */
      type: 'heatmap';
      width: number;
      height: number;
      data: string;
      low: number;
      high: number;
      /** Which part of the data, if they have more than two dimensions: `[0, :, :]`; else ''. */
      slice: string;
    }
  | {
      /** H×W×3 or H×W×4 of uint8: row by row, base64 of RGBA bytes. */
      type: 'image';
      width: number;
      height: number;
      data: string;
      slice: string;
    }
  | { type: 'table'; columns: string[]; rows: string[][]; total: number }
  | { type: 'source'; text: string; truncated: boolean }
  | { type: 'text'; text: string; truncated: boolean }
  | {
      /** There is nothing to show, and why. */
      type: 'none';
      text: string;
    }
) & { stats: IStats | null };

/** What a release came to. */
export interface IReleased {
  name: string;
  nbytes: number;
  freed: number;
  /** Who still has the rest mapped. */
  heldBy: string[];
  /** Objects that refer to the rest. */
  neededBy: string[];
  /** Whether it can be restored for a while. Not of very many at once. */
  undoable: boolean;
}

/** Why the list cannot be shown, or something cannot be done. */
export class BackendError extends Error {
  /**
   * @param reason - `missing`: there is no such name (any more); `unreachable`: no answer, try again;
   * `absent`: the server extension is not there; `forbidden`: not logged in; `store`: the store cannot be
   * used; `refused`: the message says why.
   * @param remedy - What to do, in a sentence; may be ''.
   */
  constructor(
    readonly reason: 'missing' | 'unreachable' | 'absent' | 'forbidden' | 'store' | 'refused',
    message: string,
    readonly remedy = ''
  ) {
    super(message);
    this.name = 'BackendError';
  }
}

/** Where the view gets its data from. All promises reject with a BackendError. */
export interface IBackend {
  list(query: IQuery): Promise<IPage>;
  info(name: string): Promise<IDetails>;
  preview(name: string, version: number): Promise<Preview>;
  /** Retire names for everyone; for `undoSeconds` it can be taken back. */
  release(names: string[]): Promise<IReleased[]>;
  /** Take a release back; returns the names that are there again. */
  restore(names: string[]): Promise<string[]>;
  /** Call back when the list may have changed; returns how to end that. */
  subscribe(changed: () => void): () => void;
  /** Call back when it begins or ends to wait long for an answer; returns how to end that. */
  onWaiting?(waiting: (isWaiting: boolean) => void): () => void;
}

/** How long a release can be taken back: as long as the server keeps the memory for that. */
export const undoSeconds = 10;

/** What the surroundings of the view can do. What is not there, has no button. */
export interface IHost {
  /** Open a notebook. */
  open?(path: string): void;
  /** Put code that attaches into the notebook that `target` names. */
  insert?(row: IRow): Promise<void>;
  /** The notebook that `insert` inserts into, as people call it; null if none is open. */
  target?(): string | null;
  /** Call back when the target changes; returns how to end that. */
  onTarget?(changed: () => void): () => void;
  /** Bind a variable in this kernel (the widget only); resolves to what was bound. */
  attach?(name: string, variable: string, mode: Mode): Promise<string>;
  /** The mouse was pressed on a row, to drag it, or only to click (the Lab panel only). */
  drag?(row: IRow, event: MouseEvent): void;
  /** Call back when somebody elsewhere asks to review what is not in use; returns how to end that. */
  onReview?(review: () => void): () => void;
  /** What it says while the backend waits: `Waiting for the kernel …`. */
  waiting?: string;
  /** The code that attaches a row, as the settings want it. */
  attachCode(row: IRow): string;
  copy(text: string): Promise<void>;
}

/** As of Lab's `ITranslator`: `%1` stands for the first argument. */
export interface ITranslate {
  __(msgid: string, ...args: unknown[]): string;
  _n(singular: string, plural: string, n: number, ...args: unknown[]): string;
}

/** What the user chose; kept by Lab's state, or by nobody. */
export interface IViewState {
  sort: SortKey;
  descending: boolean;
  grouped: boolean;
  collapsed: string[];
}

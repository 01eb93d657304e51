/**
 * The data that the view shows, and the interfaces of its surroundings: a backend and a host.
 *
 * The messages are the same over REST (in Lab) and over a comm (in the widget). `jshm/server/openapi.yaml`
 * describes them, and their types are generated from it.
 */
import type { components } from '../generated/openapi';

export type Messages = components['schemas'];
export type IProcess = Messages['Process'];
export type Mode = Messages['Mode'];
export type IHolder = Messages['Holder'];
export type IOldVersion = Messages['OldVersion'];
export type IRow = Messages['Row'];
export type IDetails = Messages['Details'];
export type IGroup = Messages['Group'];
export type INotice = Messages['Notice'];
export type ISummary = Messages['Summary'];
export type SortKey = Messages['SortKey'];
export type IPage = Messages['Page'];
export type IStats = NonNullable<Messages['Stats']>;
export type Preview = Messages['Preview'];
export type IReleased = Messages['Released'];
export type IRemedy = Messages['Remedy'];

export interface IQuery {
  /** Words that must all be in name, notebook, note or type. Case does not matter. */
  filter: string;
  sort: SortKey;
  descending: boolean;
  /** Whether the rows of one notebook come together. */
  grouped: boolean;
  /** Only names that no process holds. */
  unused: boolean;
  offset: number;
  limit: number;
}

/** A name to release, as the user sees it. */
export type IReleasable = Pick<IRow, 'name' | 'version' | 'nbytes'>;

/** The body of a request to release rows. */
export function releaseBody(rows: readonly IReleasable[]): {
  names: string[];
  versions: Record<string, number>;
} {
  return {
    names: rows.map(row => row.name),
    versions: Object.fromEntries(rows.map(row => [row.name, row.version]))
  };
}

/** Why the list cannot be shown, or why something cannot be done. */
export class BackendError extends Error {
  /**
   * @param reason - `missing`: no such name (any more); `unreachable`: no answer, try again; `absent`: the
   * server extension is not installed; `forbidden`: not logged in; `store`: the store cannot be used;
   * `refused`: the message says why.
   * @param hint - What the user can do, in a sentence; may be empty.
   * @param remedies - Operations of jshm that help.
   */
  constructor(
    readonly reason: 'missing' | 'unreachable' | 'absent' | 'forbidden' | 'store' | 'refused',
    message: string,
    readonly hint = '',
    readonly remedies: readonly IRemedy[] = []
  ) {
    super(message);
    this.name = 'BackendError';
  }
}

/** The source of the view's data. All promises reject with a BackendError. */
export interface IBackend {
  list(query: IQuery): Promise<IPage>;
  info(name: string): Promise<IDetails>;
  preview(name: string, version: number): Promise<Preview>;
  /** Release names for everyone, except those that have a newer version than the given one. */
  release(rows: readonly IReleasable[]): Promise<IReleased[]>;
  /** Call back when the list may have changed; returns how to stop that. */
  subscribe(changed: () => void): () => void;
  /** Call back when an answer takes long, and when it came; returns how to stop that. */
  onWaiting?(waiting: (isWaiting: boolean) => void): () => void;
}

/** The abilities of the view's surroundings. The view has no button for an ability that is missing. */
export interface IHost {
  /** Open a notebook. */
  open?(path: string): void;
  /** Insert code that attaches the row into the notebook that `target` names. */
  insert?(row: IRow): Promise<void>;
  /** The name of the notebook that `insert` inserts into; null if none is open. */
  target?(): string | null;
  /** Call back when the target changes; returns how to stop that. */
  onTarget?(changed: () => void): () => void;
  /** Bind a variable in this kernel (only the widget); resolves to a sentence about it. */
  attach?(name: string, variable: string, mode: Mode): Promise<string>;
  /** The mouse was pressed on a row, to drag or to click it (only the panel). */
  drag?(row: IRow, event: MouseEvent): void;
  /** Call back when the user wants to review names that are not in use; returns how to stop that. */
  onReview?(review: () => void): () => void;
  /** The text while the backend waits: `Waiting for the kernel …`. */
  waiting?: string;
  /** The code that attaches a row, as the settings say. */
  attachCode(row: IRow): string;
  copy(text: string): Promise<void>;
}

/** A part of Lab's `ITranslator`: `%1` stands for the first argument. */
export interface ITranslate {
  __(msgid: string, ...args: unknown[]): string;
  _n(singular: string, plural: string, n: number, ...args: unknown[]): string;
}

/** The user's choices. Lab saves them. */
export interface IViewState {
  sort: SortKey;
  descending: boolean;
  grouped: boolean;
  collapsed: string[];
}

import type { IRunningSessions } from '@jupyterlab/running';
import { Signal, type ISignal } from '@lumino/signaling';
import {
  holdersOf,
  sizeText,
  type IBackend,
  type IRow,
  type ITranslate,
  type PendingReleases
} from '../view';
import { memoryIcon } from './icon';
import { MOST_ROWS, type StoreModel } from './model';
import { releaseRows, reportError } from './notify';

/** The number of rows in one request, to find out what "Release All" releases. */
const PART = 1000;

/** A section of Lab's Running panel: names are its items, and a shutdown is a release. */
export class RunningSection implements IRunningSessions.IManager {
  constructor(
    model: StoreModel,
    backend: IBackend,
    pending: PendingReleases,
    open: (name: string | null) => void,
    trans: ITranslate
  ) {
    this._model = model;
    this._backend = backend;
    this._pending = pending;
    this._open = open;
    this._trans = trans;
    this.name = trans.__('Shared memory');
    this.shutdownLabel = trans.__('Release for everyone');
    this.shutdownAllLabel = trans.__('Release All');
    this.shutdownAllConfirmationText = trans.__(
      'Release all names for everyone, including those that are the only copy of their data? Kept names stay, and holders keep what they have.'
    );
    model.changed.connect(() => {
      pending.settle();
      this._changed.emit();
    });
    pending.subscribe(() => this._changed.emit());
  }

  readonly name: string;
  readonly shutdownLabel: string;
  readonly shutdownAllLabel: string;
  readonly shutdownAllConfirmationText: string;

  get runningChanged(): ISignal<unknown, unknown> {
    return this._changed;
  }

  running(): IRunningSessions.IRunningItem[] {
    const items = this._model.rows
      .filter(({ name, state }) => state === 'current' && !this._pending.names.has(name))
      .map(row => this._item(row));
    const more = (this._model.summary?.names ?? 0) - MOST_ROWS;
    return items.length > 0 && more > 0 ? [...items, this._moreItem(more)] : items;
  }

  refreshRunning(): void {
    this._model.nudge();
  }

  shutdownAll(): void {
    void this._releaseAll();
  }

  private async _releaseAll(): Promise<void> {
    try {
      const rows = await this._releasable();
      if (rows.length > 0) {
        this._release(rows);
      }
    } catch (error) {
      reportError(error);
    }
  }

  private async _releasable(): Promise<IRow[]> {
    const rows = new Map<string, IRow>();
    for (let offset = 0, total = 1; offset < total; offset += PART) {
      const page = await this._backend.list({
        filter: '',
        sort: 'name',
        descending: false,
        grouped: false,
        unused: false,
        offset,
        limit: PART
      });
      total = page.total;
      page.rows
        .filter(({ state, keep }) => state === 'current' && !keep)
        .forEach(row => rows.set(row.name, row));
    }
    return [...rows.values()].filter(({ name }) => !this._pending.names.has(name));
  }

  private readonly _changed = new Signal<this, void>(this);

  private _release(rows: IRow[]): void {
    const held = rows.flatMap(holdersOf);
    const labels = [...new Set(held.map(({ label }) => label))];
    releaseRows(rows, labels, this._pending, this._trans, () => void this._model.refresh());
  }

  private _item(row: IRow): IRunningSessions.IRunningItem {
    return {
      className: 'jshm-running',
      context: row.name,
      icon: () => memoryIcon,
      label: () => row.name,
      labelTitle: () =>
        this._trans.__('%1 v%2, published by %3', row.name, row.version, row.publisher.label),
      // A narrow panel cuts off the end.
      detail: () => `${sizeText(row.nbytes)} · ${row.summary}`,
      open: () => this._open(row.name),
      shutdown: () => this._release([row])
    };
  }

  private _moreItem(more: number): IRunningSessions.IRunningItem {
    return {
      className: 'jshm-running',
      icon: () => memoryIcon,
      label: () => this._trans._n('and %1 more', 'and %1 more', more),
      open: () => this._open(null)
    };
  }

  private readonly _model: StoreModel;
  private readonly _backend: IBackend;
  private readonly _pending: PendingReleases;
  private readonly _open: (name: string | null) => void;
  private readonly _trans: ITranslate;
}

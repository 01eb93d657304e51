import type { IRunningSessions } from '@jupyterlab/running';
import type { ISignal } from '@lumino/signaling';
import { sizeText, type IBackend, type IRow, type ITranslate } from '../view';
import { memoryIcon } from './icon';
import { MOST_ROWS, type StoreModel } from './model';
import { releaseAndTell, reportError } from './notify';

/** How many rows are asked for at a time to find out what "Release All" releases. */
const PART = 1000;

/** The section of Lab's Running panel: a name is what runs, a release is what shuts it down. */
export class RunningSection implements IRunningSessions.IManager {
  constructor(
    model: StoreModel,
    backend: IBackend,
    open: (name: string | null) => void,
    trans: ITranslate
  ) {
    this._model = model;
    this._backend = backend;
    this._open = open;
    this._trans = trans;
    this.name = trans.__('Shared memory');
    this.shutdownLabel = trans.__('Release for everyone');
    this.shutdownAllLabel = trans.__('Release All');
  }

  readonly name: string;
  readonly shutdownLabel: string;
  readonly shutdownAllLabel: string;

  /** A getter, because Labs before 4.4 take no function here. */
  get shutdownAllConfirmationText(): string {
    const limit = this._model.summary?.undoLimit ?? 0;
    const text = this._trans.__(
      'Release all names for everyone, also those that are the only copy of their data? Kept names stay, and whoever holds something keeps it.'
    );
    return limit > 0
      ? `${text} ${this._trans.__('More than %1 at once cannot be undone.', limit)}`
      : text;
  }

  get runningChanged(): ISignal<unknown, unknown> {
    return this._model.changed;
  }

  running(): IRunningSessions.IRunningItem[] {
    const items = this._model.rows
      .filter(({ state }) => state === 'current')
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
      const names = await this._releasable();
      if (names.length > 0) {
        await this._release(names);
      }
    } catch (error) {
      reportError(error);
    }
  }

  private async _releasable(): Promise<string[]> {
    const names = new Set<string>();
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
        .forEach(({ name }) => names.add(name));
    }
    return [...names];
  }

  private async _release(names: string[]): Promise<void> {
    await releaseAndTell(names, this._backend, this._trans);
    await this._model.refresh();
  }

  private _item(row: IRow): IRunningSessions.IRunningItem {
    return {
      className: 'jshm-running',
      context: row.name,
      icon: () => memoryIcon,
      label: () => row.name,
      labelTitle: () =>
        this._trans.__('%1 v%2, published by %3', row.name, row.version, row.publisher.label),
      // The end is cut off where the panel is narrow.
      detail: () => `${sizeText(row.nbytes)} · ${row.summary}`,
      open: () => this._open(row.name),
      shutdown: () => void this._release([row.name])
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
  private readonly _open: (name: string | null) => void;
  private readonly _trans: ITranslate;
}

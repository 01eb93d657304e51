import { DisposableDelegate, type IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { Signal, type ISignal } from '@lumino/signaling';
import { BackendError, type IBackend, type IRow, type ISummary } from '../view';

/** The number of names in Lab's Running panel, which draws all its items. */
export const MOST_ROWS = 100;

/** Events come in bursts: one read is enough for all events in this time, in milliseconds. */
const BURST = 200;

/** The requests of the model. */
export interface ISource extends Pick<IBackend, 'list'> {
  summary(): Promise<ISummary>;
}

/**
 * The state of the store for panel, status bar and Running section together.
 *
 * It reads the store only while something watches it (`watch`) and the browser's tab is visible. Otherwise no timer
 * runs.
 */
export class StoreModel implements IDisposable {
  constructor(source: ISource, seconds: number) {
    this._source = source;
    this._poll = new Poll({
      name: 'jshm:model',
      auto: false,
      // `_follow` stops it in a hidden tab, with its timers.
      standby: 'never',
      frequency: frequency(seconds),
      factory: () => this._read()
    });
    document.addEventListener('visibilitychange', this._follow);
  }

  /** The store may have changed, or its server became reachable or unreachable. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The latest sums; null if they are not known. */
  get summary(): ISummary | null {
    return this._summary;
  }

  /** The first names. They are read only while something watches with `rows`. */
  get rows(): readonly IRow[] {
    return this._rows;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  /** Seconds between two reads. */
  set seconds(seconds: number) {
    if (seconds * 1000 !== this._poll.frequency.interval) {
      this._poll.frequency = frequency(seconds);
      // The read that is scheduled has the old interval.
      this.nudge();
    }
  }

  /** Read the store now, and regularly until the result is disposed. */
  watch(options: { rows?: boolean } = {}): IDisposable {
    this._watchers++;
    this._rowWatchers += options.rows ? 1 : 0;
    this._follow();
    this.nudge();
    return new DisposableDelegate(() => {
      this._watchers--;
      this._rowWatchers -= options.rows ? 1 : 0;
      this._follow();
    });
  }

  /** The store may have changed: read it soon, if something watches. */
  nudge(): void {
    if (this._watched) {
      void this._poll.schedule({
        interval: BURST,
        phase: 'refreshed',
        // One scheduled read is enough. A request on its way may be too early for this change.
        cancel: ({ phase }) => !this._asking && (phase === 'refreshed' || phase === 'started')
      });
    }
  }

  /** Read the store now, even if nothing watches. */
  async refresh(): Promise<void> {
    await this._read().catch(() => undefined);
  }

  dispose(): void {
    document.removeEventListener('visibilitychange', this._follow);
    this._poll.dispose();
    Signal.clearData(this);
  }

  private get _watched(): boolean {
    return this._watchers > 0 && document.visibilityState !== 'hidden';
  }

  private readonly _follow = (): void => {
    void (this._watched ? this._poll.start() : this._poll.stop());
  };

  private async _read(): Promise<void> {
    const turn = ++this._turn;
    this._asking++;
    try {
      const heard = await this._request();
      if (turn === this._turn) {
        this._summary = heard.summary;
        this._rows = heard.rows ?? this._rows;
        this._failed = false;
        this._changed.emit();
      }
    } catch (error) {
      // Only the first failure is emitted: the view reads its list after each signal.
      if (turn === this._turn && !this._failed) {
        this._summary = null;
        this._rows = [];
        this._failed = true;
        this._changed.emit();
      }
      if (error instanceof BackendError && error.reason === 'absent') {
        // Each request would be a line in the server's log. Wait for an event or a new watcher.
        void this._poll.stop();
      }
      throw error;
    } finally {
      this._asking--;
    }
  }

  private async _request(): Promise<{ summary: ISummary; rows?: IRow[] }> {
    return this._rowWatchers === 0
      ? { summary: await this._source.summary() }
      : this._source.list({
          filter: '',
          sort: 'name',
          descending: false,
          grouped: false,
          unused: false,
          offset: 0,
          limit: MOST_ROWS
        });
  }

  private readonly _source: ISource;
  private readonly _poll: Poll;
  private readonly _changed = new Signal<this, void>(this);
  private _summary: ISummary | null = null;
  private _rows: readonly IRow[] = [];
  private _watchers = 0;
  private _rowWatchers = 0;
  private _turn = 0;
  private _asking = 0;
  private _failed = false;
}

/** After failures the interval grows to half a minute, or stays at the chosen one if that is longer. */
function frequency(seconds: number): { interval: number; backoff: boolean; max: number } {
  const interval = seconds * 1000;
  return { interval, backoff: true, max: Math.max(interval, 30_000) };
}

import { DisposableDelegate, type IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { Signal, type ISignal } from '@lumino/signaling';
import { BackendError, type IBackend, type IRow, type ISummary } from '../view';

/** How many names are asked for where they are listed one by one without a window: in Running. */
export const MOST_ROWS = 100;

/** Events come in bursts: one look is enough for those of so many milliseconds. */
const BURST = 200;

/** What the model asks. */
export interface ISource extends Pick<IBackend, 'list'> {
  summary(): Promise<ISummary>;
}

/**
 * What panel, status bar and Running section know of the store, asked for once for all of them.
 *
 * It asks only while somebody looks (`watch`) and the browser's tab is shown: no timer runs else.
 */
export class StoreModel implements IDisposable {
  constructor(source: ISource, seconds: number) {
    this._source = source;
    this._poll = new Poll({
      name: 'jshm:model',
      auto: false,
      // A hidden tab stops it altogether, which saves its timers too.
      standby: 'never',
      frequency: frequency(seconds),
      factory: () => this._look()
    });
    document.addEventListener('visibilitychange', this._follow);
  }

  /** The store may have changed, or it can be reached again, or not any more. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** As last heard; null if it was not, or if it could not be reached. */
  get summary(): ISummary | null {
    return this._summary;
  }

  /** The first names. Asked for only while somebody watches `rows`. */
  get rows(): readonly IRow[] {
    return this._rows;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  /** Seconds between two looks. */
  set seconds(seconds: number) {
    if (seconds * 1000 !== this._poll.frequency.interval) {
      this._poll.frequency = frequency(seconds);
      // The look that waits goes by the old one.
      this.nudge();
    }
  }

  /** Look now, and go on until what is returned is disposed. */
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

  /** Something may have changed: look soon, if anybody does. */
  nudge(): void {
    if (this._watched) {
      void this._poll.schedule({
        interval: BURST,
        phase: 'refreshed',
        // One that waits is enough; one that was asked already may know nothing of this yet.
        cancel: ({ phase }) => !this._asking && (phase === 'refreshed' || phase === 'started')
      });
    }
  }

  /** Look now, also if nobody watches. */
  async refresh(): Promise<void> {
    await this._look().catch(() => undefined);
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

  private async _look(): Promise<void> {
    const turn = ++this._turn;
    this._asking++;
    try {
      const heard = await this._ask();
      if (turn === this._turn) {
        this._summary = heard.summary;
        this._rows = heard.rows ?? this._rows;
        this._failed = false;
        this._changed.emit();
      }
    } catch (error) {
      // Only the first failure is news: the view shows it, and would ask with every further one.
      if (turn === this._turn && !this._failed) {
        this._summary = null;
        this._rows = [];
        this._failed = true;
        this._changed.emit();
      }
      if (error instanceof BackendError && error.reason === 'absent') {
        // Every question would be a line in the server's log: wait for an event, or for somebody to look.
        void this._poll.stop();
      }
      throw error;
    } finally {
      this._asking--;
    }
  }

  private async _ask(): Promise<{ summary: ISummary; rows?: IRow[] }> {
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

/** Failures are asked about again at growing intervals, at most half a minute or what was chosen. */
function frequency(seconds: number): { interval: number; backoff: boolean; max: number } {
  const interval = seconds * 1000;
  return { interval, backoff: true, max: Math.max(interval, 30_000) };
}

/** Releases that can still be undone: the backend is asked for them only after some seconds. */
import type { IBackend, IReleasable, IReleased } from './types';

/** How long a release can be undone. */
export const UNDO_SECONDS = 10;

export interface IReleaseHandlers {
  /** The backend is asked now: the release can no longer be undone. */
  started(): void;
  done(released: IReleased[]): void;
  failed(error: unknown): void;
}

interface IPending {
  names: readonly string[];
  state: 'waiting' | 'asked' | 'released';
}

/** The pending releases of a page. If the page is closed before its time, a release does not happen. */
export class PendingReleases {
  constructor(
    private readonly _backend: Pick<IBackend, 'release'>,
    private readonly _seconds = UNDO_SECONDS
  ) {}

  /** Names that look released: also those whose release is done, until a new list has come. */
  names: ReadonlySet<string> = new Set();

  /** Release rows after some seconds; returns how to undo that. */
  add(rows: readonly IReleasable[], handlers: IReleaseHandlers): () => void {
    const pending: IPending = { names: rows.map(row => row.name), state: 'waiting' };
    const release = () => {
      pending.state = 'asked';
      handlers.started();
      this._backend.release(rows).then(
        released => {
          // The others have a newer version, or are gone.
          pending.names = released.map(each => each.name);
          pending.state = 'released';
          this._update();
          handlers.done(released);
        },
        (error: unknown) => {
          this._remove(pending);
          handlers.failed(error);
        }
      );
    };
    const timer = setTimeout(release, this._seconds * 1000);
    this._pending.add(pending);
    this._update();
    return () => {
      if (pending.state === 'waiting') {
        clearTimeout(timer);
        this._remove(pending);
      }
    };
  }

  /** A new list has come: it shows which names were released. */
  settle(): void {
    const done = [...this._pending].filter(({ state }) => state === 'released');
    done.forEach(pending => this._remove(pending));
  }

  /** Call back when `names` has changed; returns how to stop that. */
  subscribe(changed: () => void): () => void {
    this._listeners.add(changed);
    return () => void this._listeners.delete(changed);
  }

  private _remove(pending: IPending): void {
    if (this._pending.delete(pending)) {
      this._update();
    }
  }

  private _update(): void {
    this.names = new Set([...this._pending].flatMap(({ names }) => names));
    this._listeners.forEach(changed => changed());
  }

  private readonly _pending = new Set<IPending>();
  private readonly _listeners = new Set<() => void>();
}

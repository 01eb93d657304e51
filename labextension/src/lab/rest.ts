import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';
import { BackendError, releaseBody } from '../view';
import type {
  IBackend,
  IDetails,
  IPage,
  IQuery,
  IReleasable,
  IReleased,
  ISummary,
  ITranslate,
  Preview
} from '../view';
import { isObject, read, readPreview } from './read';

/** After this time the view says that it waits for an answer; after the second, it gives up. */
const PATIENCE_MS = 2000;
const GIVE_UP_MS = 15_000;

/** The part of a URL for a name. Slashes of the name are slashes of the path. */
export function namePath(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/');
}

/** The query string of a query: `?filter=X&sort=name&descending=0…`. */
export function queryString(query: IQuery): string {
  const values = Object.entries(query).map(([key, value]: [string, string | number | boolean]) => [
    key,
    typeof value === 'boolean' ? String(Number(value)) : String(value)
  ]);
  return `?${new URLSearchParams(values).toString()}`;
}

/** The REST interface of the server extension. */
export class RestBackend implements IBackend {
  constructor(settings: ServerConnection.ISettings, trans: ITranslate) {
    this._settings = settings;
    this._trans = trans;
  }

  async list(query: IQuery): Promise<IPage> {
    return read('Page', await this._get(`segments${queryString(query)}`));
  }

  async info(name: string): Promise<IDetails> {
    return read('Details', await this._get(`segments/${namePath(name)}`));
  }

  async preview(name: string, version: number): Promise<Preview> {
    const raw = await this._get(`previews/${namePath(name)}?version=${version}`);
    return readPreview(raw, this._trans.__('This version of the panel cannot show this preview.'));
  }

  async summary(): Promise<ISummary> {
    return read('Summary', await this._get('summary'));
  }

  async release(rows: readonly IReleasable[]): Promise<IReleased[]> {
    const body = JSON.stringify(releaseBody(rows));
    const released = await this._ask('release', { method: 'POST', body });
    return Array.isArray(released) ? released.map(each => read('Released', each)) : [];
  }

  subscribe(changed: () => void): () => void {
    const slot = () => changed();
    this._changed.connect(slot);
    return () => {
      this._changed.disconnect(slot);
    };
  }

  onWaiting(waiting: (isWaiting: boolean) => void): () => void {
    const slot = () => waiting(this._late > 0);
    slot();
    this._lateChanged.connect(slot);
    return () => {
      this._lateChanged.disconnect(slot);
    };
  }

  /** Tell the subscribers that the list may have changed. */
  notify(): void {
    this._changed.emit();
  }

  /** An answer that is not an object does not come from jshm, whatever its status is. */
  private async _get(path: string): Promise<unknown> {
    const raw = await this._ask(path);
    if (!isObject(raw)) {
      throw this._unreadable();
    }
    return raw;
  }

  private async _ask(path: string, init: RequestInit = {}): Promise<unknown> {
    const { ok, status, body } = await this._fetch(path, init);
    const answer = parse(body);
    if (!ok) {
      throw this._failure(status, answer);
    }
    if (answer === undefined) {
      throw this._unreadable();
    }
    return answer;
  }

  private async _fetch(path: string, init: RequestInit) {
    const url = URLExt.join(this._settings.baseUrl, 'jshm/api', path);
    const control = new AbortController();
    const giveUp = setTimeout(() => control.abort(), GIVE_UP_MS);
    let late = 0;
    const wait = setTimeout(() => this._setLate((late = 1)), PATIENCE_MS);
    try {
      const asked = { ...init, signal: control.signal };
      const response = await ServerConnection.makeRequest(url, asked, this._settings);
      return { ok: response.ok, status: response.status, body: await response.text() };
    } catch {
      throw new BackendError(
        'unreachable',
        this._trans.__('The Jupyter server does not answer.'),
        control.signal.aborted
          ? this._trans.__('It may be very busy, or it hangs: its log may say why. Try again.')
          : this._trans.__('Check that it runs and that you are online.')
      );
    } finally {
      clearTimeout(giveUp);
      clearTimeout(wait);
      this._setLate(-late);
    }
  }

  /** Change the number of late answers. */
  private _setLate(more: number): void {
    const before = this._late;
    this._late += more;
    if (before > 0 !== this._late > 0) {
      this._lateChanged.emit();
    }
  }

  private _failure(status: number, answer: unknown): BackendError {
    if (status === 401 || status === 403) {
      return new BackendError(
        'forbidden',
        this._trans.__('The Jupyter server refused the request: you are not logged in any more.'),
        this._trans.__('Reload the page and log in.')
      );
    }
    const error = read('Error', answer);
    if (isObject(answer) && answer.reason === error.reason) {
      return new BackendError(error.reason, error.message, '', error.remedies);
    }
    if (status === 404) {
      return new BackendError(
        'absent',
        this._trans.__('The server extension of jshm is not enabled on this Jupyter server.'),
        this._trans.__(
          'Run "pip install jshm" in the environment of the Jupyter server and restart it. If jshm is installed there, run "jupyter server extension enable jshm".'
        )
      );
    }
    return new BackendError(
      'unreachable',
      this._trans.__('The Jupyter server failed (%1).', status),
      this._trans.__('Its log says why. Try again.')
    );
  }

  private _unreadable(): BackendError {
    return new BackendError(
      'unreachable',
      this._trans.__('The answer of the Jupyter server cannot be read.'),
      this._trans.__('A proxy may have answered instead of the server. Reload the page.')
    );
  }

  private readonly _settings: ServerConnection.ISettings;
  private readonly _trans: ITranslate;
  private readonly _changed = new Signal<this, void>(this);
  private readonly _lateChanged = new Signal<this, void>(this);
  /** The number of late answers. */
  private _late = 0;
}

/** The value of some JSON; undefined if it is not JSON. */
function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

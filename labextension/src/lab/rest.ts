import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';
import { BackendError, undoSeconds } from '../view';
import type {
  IBackend,
  IDetails,
  IPage,
  IQuery,
  IReleased,
  ISummary,
  ITranslate,
  Preview
} from '../view';
import * as shapes from './shapes';

type Reason = BackendError['reason'];

/** How long an answer takes until that is said, and until none is expected any more. */
const PATIENCE_MS = 2000;
const GIVE_UP_MS = 15_000;

const REASONS: readonly Reason[] = ['missing', 'refused', 'store', 'forbidden', 'absent'];

/** The part of a URL that stands for a name: its slashes are slashes there. */
export function namePath(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/');
}

/** A query as the server reads it: `?filter=X&sort=name&descending=0…`. */
export function queryString(query: IQuery): string {
  const values = Object.entries(query).map(([key, value]: [string, string | number | boolean]) => [
    key,
    typeof value === 'boolean' ? String(Number(value)) : String(value)
  ]);
  return `?${new URLSearchParams(values).toString()}`;
}

/** The store as the server extension tells it. */
export class RestBackend implements IBackend {
  constructor(settings: ServerConnection.ISettings, trans: ITranslate) {
    this._settings = settings;
    this._trans = trans;
  }

  list(query: IQuery): Promise<IPage> {
    return this._get(`segments${queryString(query)}`, shapes.page);
  }

  info(name: string): Promise<IDetails> {
    return this._get(`segments/${namePath(name)}`, shapes.details);
  }

  preview(name: string, version: number): Promise<Preview> {
    const unknown = this._trans.__('This version of the panel cannot show it.');
    return this._get(`previews/${namePath(name)}?version=${version}`, shapes.preview(unknown));
  }

  summary(): Promise<ISummary> {
    return this._get('summary', shapes.summary);
  }

  async release(names: string[]): Promise<IReleased[]> {
    return shapes.list(shapes.released)(await this._post('release', { names, undo: undoSeconds }));
  }

  async restore(names: string[]): Promise<string[]> {
    return shapes.list(shapes.text)(await this._post('restore', { names }));
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

  /** Tell those who subscribed that the list may have changed. */
  notify(): void {
    this._changed.emit();
  }

  /** What is not an object comes from somebody else, whatever its status says. */
  private async _get<T>(path: string, read: (raw: unknown) => T): Promise<T> {
    const raw = await this._ask(path);
    if (!shapes.isObject(raw)) {
      throw this._unreadable();
    }
    return read(raw);
  }

  private _post(path: string, body: object): Promise<unknown> {
    return this._ask(path, { method: 'POST', body: JSON.stringify(body) });
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

  /** So many more questions wait for long. */
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
        this._trans.__('The Jupyter server refuses: you are not logged in any more.'),
        this._trans.__('Reload the page, and log in.')
      );
    }
    const given = shapes.isObject(answer) ? answer : {};
    const reason = REASONS.find(known => known === given.reason);
    if (reason) {
      return new BackendError(reason, shapes.text(given.message), shapes.text(given.remedy));
    }
    if (status === 404) {
      return new BackendError(
        'absent',
        this._trans.__('This Jupyter server knows nothing of jshm.'),
        this._trans.__(
          'Run "pip install jshm" in the environment of the Jupyter server and restart it; if it is installed there, run "jupyter server extension enable jshm".'
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
      this._trans.__(
        'Something between here and the server may have answered for it. Reload the page.'
      )
    );
  }

  private readonly _settings: ServerConnection.ISettings;
  private readonly _trans: ITranslate;
  private readonly _changed = new Signal<this, void>(this);
  private readonly _lateChanged = new Signal<this, void>(this);
  /** How many questions wait for long. */
  private _late = 0;
}

/** JSON, or undefined if it is none. */
function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

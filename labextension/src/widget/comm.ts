/** Sends the requests of the view as messages to the kernel. */
import type { AnyModel } from '@anywidget/types';
import {
  BackendError,
  type IBackend,
  type IDetails,
  type IPage,
  type IQuery,
  type IReleasable,
  type IReleased,
  type IRemedy,
  type Mode,
  type Preview,
  releaseBody
} from '../view';

/** If an answer takes longer, the kernel is busy. */
const PATIENCE_MS = 700;
const REASONS = ['missing', 'unreachable', 'absent', 'forbidden', 'store', 'refused'] as const;

export type Model = Pick<AnyModel, 'get' | 'set' | 'on' | 'off' | 'send' | 'save_changes'>;

const DEAD = {
  reason: 'unreachable',
  message: 'The kernel was restarted or has ended: run this cell again.'
};

interface IReply {
  changed?: boolean;
  id?: string;
  result?: unknown;
  error?: { reason?: string; message?: string; remedies?: IRemedy[] };
}

interface IQuestion {
  id: string;
  /** Equal for equal requests. */
  key: string;
  method: string;
  params: object;
  /** The list that it reads a part of; else ''. */
  list: string;
  sent: boolean;
  answer: Promise<unknown>;
  resolve(result: unknown): void;
  reject(error: BackendError): void;
}

function errorOf(error: NonNullable<IReply['error']>): BackendError {
  const reason = REASONS.find(known => known === error.reason) ?? 'refused';
  return new BackendError(reason, error.message ?? '', '', error.remedies ?? []);
}

/**
 * A busy kernel answers when it is idle again. So no request times out and equal requests are sent once. While
 * a part of a list is on its way, only the latest other list is remembered.
 */
export class CommBackend implements IBackend {
  constructor(private readonly _model: Model) {
    _model.on('msg:custom', this._onMessage);
  }

  list(query: IQuery): Promise<IPage> {
    const list = JSON.stringify({ ...query, offset: 0, limit: 0 });
    this._questions.forEach(question => {
      if (question.list && question.list !== list && !question.sent) {
        this._questions.delete(question.id);
        question.reject(new BackendError('unreachable', 'Another list was requested.'));
      }
    });
    return this._ask<IPage>('list', { query }, list);
  }

  info(name: string): Promise<IDetails> {
    return this._ask('info', { name });
  }

  preview(name: string, version: number): Promise<Preview> {
    return this._ask('preview', { name, version });
  }

  release(rows: readonly IReleasable[]): Promise<IReleased[]> {
    return this._ask('release', releaseBody(rows));
  }

  attach(name: string, variable: string, mode: Mode): Promise<string> {
    return this._ask('attach', { name, variable, mode });
  }

  subscribe(changed: () => void): () => void {
    this._changed.add(changed);
    return () => this._changed.delete(changed);
  }

  onWaiting(waiting: (isWaiting: boolean) => void): () => void {
    this._waiting.add(waiting);
    waiting(this._isWaiting);
    return () => this._waiting.delete(waiting);
  }

  dispose(): void {
    this._model.off('msg:custom', this._onMessage);
    clearTimeout(this._timer);
    this._questions.clear();
    this._changed.clear();
    this._waiting.clear();
  }

  private _ask<T>(method: string, params: object, list = ''): Promise<T> {
    const key = JSON.stringify([method, params]);
    let question = [...this._questions.values()].find(each => each.key === key);
    if (!question) {
      // All views of a widget receive all replies.
      const id = `${this._prefix}-${++this._count}`;
      const created = { id, key, method, params, list, sent: false } as IQuestion;
      created.answer = new Promise((resolve, reject) =>
        Object.assign(created, { resolve, reject })
      );
      question = created;
      this._questions.set(id, created);
      this._send();
    }
    return question.answer as Promise<T>;
  }

  /** Send the requests that may be sent: those for parts of a list only for one list at a time. */
  private _send(): void {
    for (const question of this._questions.values()) {
      const { id, method, params, list, sent } = question;
      const other = [...this._questions.values()].some(
        each => each.sent && each.list && each.list !== list
      );
      if (!sent && !(list && other)) {
        question.sent = true;
        try {
          this._model.send({ id, method, params });
        } catch {
          // The comm is closed.
          this._questions.delete(id);
          question.reject(errorOf(DEAD));
        }
      }
    }
    if (this._questions.size && this._timer === undefined) {
      this._timer = setTimeout(() => this._setWaiting(true), PATIENCE_MS);
    }
  }

  private _onMessage = (reply: IReply): void => {
    if (reply.changed) {
      this._changed.forEach(changed => changed());
      return;
    }
    const question = this._questions.get(reply.id ?? '');
    if (!question) {
      return;
    }
    this._questions.delete(question.id);
    if (reply.error) {
      question.reject(errorOf(reply.error));
    } else {
      question.resolve(reply.result);
    }
    clearTimeout(this._timer);
    this._timer = undefined;
    this._setWaiting(false);
    this._send();
  };

  private _setWaiting(isWaiting: boolean): void {
    if (isWaiting !== this._isWaiting) {
      this._isWaiting = isWaiting;
      this._waiting.forEach(waiting => waiting(isWaiting));
    }
  }

  private readonly _prefix = Math.random().toString(36).slice(2);
  private _count = 0;
  /** The requests without an answer, in their order. */
  private readonly _questions = new Map<string, IQuestion>();
  private readonly _changed = new Set<() => void>();
  private readonly _waiting = new Set<(isWaiting: boolean) => void>();
  private _isWaiting = false;
  private _timer: ReturnType<typeof setTimeout> | undefined;
}

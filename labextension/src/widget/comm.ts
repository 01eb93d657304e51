/** The view's questions as messages to the kernel. */
import type { AnyModel } from '@anywidget/types';
import {
  BackendError,
  type IBackend,
  type IDetails,
  type IPage,
  type IQuery,
  type IReleased,
  type Mode,
  type Preview
} from '../view';

/** An answer that takes longer means that the kernel computes. */
const PATIENCE_MS = 700;
const REASONS = ['missing', 'unreachable', 'absent', 'forbidden', 'store', 'refused'] as const;

export type Model = Pick<AnyModel, 'get' | 'set' | 'on' | 'off' | 'send' | 'save_changes'>;

const DEAD = {
  reason: 'unreachable',
  message: 'The kernel was restarted, or has ended: run this cell again.'
};

interface IReply {
  changed?: boolean;
  id?: string;
  result?: unknown;
  error?: { reason?: string; message?: string; remedy?: string };
}

interface IQuestion {
  id: string;
  /** What is asked: the same as of another one that asks the same. */
  key: string;
  method: string;
  params: object;
  /** Of a list, which one it is a part of; else ''. */
  list: string;
  sent: boolean;
  answer: Promise<unknown>;
  resolve(result: unknown): void;
  reject(error: BackendError): void;
}

function errorOf(error: NonNullable<IReply['error']>): BackendError {
  const reason = REASONS.find(known => known === error.reason) ?? 'refused';
  return new BackendError(reason, error.message ?? '', error.remedy ?? '');
}

/**
 * A kernel that computes answers when it is done. So nothing times out, nothing is asked twice, and of the
 * lists that are asked for while another one is on its way only the latest is sent.
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
        question.reject(new BackendError('unreachable', 'Another list was asked for.'));
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

  release(names: string[]): Promise<IReleased[]> {
    return this._ask('release', { names });
  }

  restore(names: string[]): Promise<string[]> {
    return this._ask('restore', { names });
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
      // All views of a widget hear all replies.
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

  /** Send what may be sent: parts of one list at a time. */
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
          // There is no comm any more.
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
  /** Those without an answer, in the order in which they were asked. */
  private readonly _questions = new Map<string, IQuestion>();
  private readonly _changed = new Set<() => void>();
  private readonly _waiting = new Set<(isWaiting: boolean) => void>();
  private _isWaiting = false;
  private _timer: ReturnType<typeof setTimeout> | undefined;
}

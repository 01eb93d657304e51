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

interface IReply {
  changed?: boolean;
  id?: string;
  result?: unknown;
  error?: { reason?: string; message?: string; remedy?: string };
}

interface IQuestion {
  id: string;
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
  constructor(private readonly model: Model) {
    model.on('msg:custom', this.onMessage);
  }

  list(query: IQuery): Promise<IPage> {
    const list = JSON.stringify({ ...query, offset: 0, limit: 0 });
    this.questions.forEach(question => {
      if (question.list && question.list !== list && !question.sent) {
        this.questions.delete(question.id);
        question.reject(new BackendError('unreachable', 'Another list was asked for.'));
      }
    });
    return this.ask<IPage>('list', { query }, list);
  }

  info(name: string): Promise<IDetails> {
    return this.ask('info', { name });
  }

  preview(name: string, version: number): Promise<Preview> {
    return this.ask('preview', { name, version });
  }

  release(names: string[]): Promise<IReleased[]> {
    return this.ask('release', { names });
  }

  restore(names: string[]): Promise<string[]> {
    return this.ask('restore', { names });
  }

  attach(name: string, variable: string, mode: Mode): Promise<string> {
    return this.ask('attach', { name, variable, mode });
  }

  subscribe(changed: () => void): () => void {
    this.changed.add(changed);
    return () => this.changed.delete(changed);
  }

  onWaiting(waiting: (isWaiting: boolean) => void): () => void {
    this.waiting.add(waiting);
    waiting(this.isWaiting);
    return () => this.waiting.delete(waiting);
  }

  dispose(): void {
    this.model.off('msg:custom', this.onMessage);
    clearTimeout(this.timer);
    this.questions.clear();
    this.changed.clear();
    this.waiting.clear();
  }

  private ask<T>(method: string, params: object, list = ''): Promise<T> {
    const key = JSON.stringify([method, params]);
    for (const question of this.questions.values()) {
      if (JSON.stringify([question.method, question.params]) === key) {
        return question.answer as Promise<T>;
      }
    }
    let resolve: (result: unknown) => void = () => undefined;
    let reject: (error: BackendError) => void = () => undefined;
    const answer = new Promise<unknown>((yes, no) => {
      resolve = yes;
      reject = no;
    });
    // All views of a widget hear all replies.
    const id = `${this.prefix}-${++this.count}`;
    const question = { id, method, params, list, sent: false, answer, resolve, reject };
    this.questions.set(id, question);
    this.send();
    return answer as Promise<T>;
  }

  /** Send what may be sent: parts of one list at a time. */
  private send(): void {
    for (const question of this.questions.values()) {
      const { id, method, params, list, sent } = question;
      const other = [...this.questions.values()].some(
        each => each.sent && each.list && each.list !== list
      );
      if (!sent && !(list && other)) {
        question.sent = true;
        this.model.send({ id, method, params });
      }
    }
    if (this.questions.size && this.timer === undefined) {
      this.timer = setTimeout(() => this.setWaiting(true), PATIENCE_MS);
    }
  }

  private onMessage = (reply: IReply): void => {
    if (reply.changed) {
      this.changed.forEach(changed => changed());
      return;
    }
    const question = this.questions.get(reply.id ?? '');
    if (!question) {
      return;
    }
    this.questions.delete(question.id);
    if (reply.error) {
      question.reject(errorOf(reply.error));
    } else {
      question.resolve(reply.result);
    }
    clearTimeout(this.timer);
    this.timer = undefined;
    this.setWaiting(false);
    this.send();
  };

  private setWaiting(isWaiting: boolean): void {
    if (isWaiting !== this.isWaiting) {
      this.isWaiting = isWaiting;
      this.waiting.forEach(waiting => waiting(isWaiting));
    }
  }

  private readonly prefix = Math.random().toString(36).slice(2);
  private count = 0;
  /** Those without an answer, in the order in which they were asked. */
  private readonly questions = new Map<string, IQuestion>();
  private readonly changed = new Set<() => void>();
  private readonly waiting = new Set<(isWaiting: boolean) => void>();
  private isWaiting = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
}

/** A widget's model with a kernel that a test controls. */
import type { Model } from '../widget/comm';

type Handler = (...args: never[]) => void;

export interface ISent {
  id: string;
  method: string;
  params: Record<string, unknown>;
}

export class FakeModel implements Model {
  constructor(readonly traits: Record<string, unknown> = {}) {}

  readonly sent: ISent[] = [];
  saves = 0;
  /** The kernel's reaction to a message. */
  onSend: ((message: ISent) => void) | null = null;

  get(name: string): unknown {
    return this.traits[name];
  }

  set(name: string, value: unknown): void {
    if (this.traits[name] !== value) {
      this.traits[name] = value;
      this.emit(`change:${name}`);
    }
  }

  save_changes(): void {
    this.saves++;
  }

  send(content: ISent): void {
    this.sent.push(content);
    this.onSend?.(content);
  }

  on(event: string, handler: Handler): void {
    this.handlers.push([event, handler]);
  }

  off(event?: string | null, handler?: Handler | null): void {
    this.handlers = this.handlers.filter(
      ([name, each]) => (event && name !== event) || (handler && each !== handler)
    );
  }

  emit(event: string, ...args: unknown[]): void {
    this.handlers
      .filter(([name]) => name === event)
      .forEach(([, handler]) => (handler as (...all: unknown[]) => void)(...args));
  }

  /** The kernel's reply to the message with an index. */
  reply(index: number, result: unknown): void {
    this.emit('msg:custom', { id: this.sent[index].id, result });
  }

  get listening(): number {
    return this.handlers.length;
  }

  private handlers: [string, Handler][] = [];
}

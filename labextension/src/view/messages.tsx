/** Bars at the bottom: results of actions, with Undo where that is possible, and errors. */
import * as React from 'react';
import { useSurroundings } from './context';
import { Button, IconButton } from './icons';
import { UNDO_SECONDS } from './pending';
import { Remedies } from './Remedies';
import type { BackendError } from './types';

const INFO_SECONDS = 6;

export interface IMessage {
  id: number;
  text: string;
  /** The error that the message is about. */
  error: BackendError | null;
  undo: (() => void) | null;
}

export interface IMessages {
  messages: readonly IMessage[];
  /** Show a result; returns its id. With `undo`, it stays until it is dismissed. */
  say(text: string, undo?: () => void): number;
  fail(error: BackendError): void;
  dismiss(id: number): void;
}

export function useMessages(): IMessages {
  const [messages, setMessages] = React.useState<readonly IMessage[]>([]);
  const lastId = React.useRef(0);
  return React.useMemo(() => {
    const add = (message: Omit<IMessage, 'id'>) => {
      const id = ++lastId.current;
      setMessages(old => [
        ...old.filter(each => each.undo ?? each.text !== message.text),
        { ...message, id }
      ]);
      return id;
    };
    return {
      messages,
      say: (text, undo) => add({ text, error: null, undo: undo ?? null }),
      fail: error => void add({ text: error.message, error, undo: null }),
      dismiss: id => setMessages(old => old.filter(message => message.id !== id))
    };
  }, [messages]);
}

function Bar({ message, onDismiss }: { message: IMessage; onDismiss(): void }): React.JSX.Element {
  const { trans } = useSurroundings();
  const { text, error, undo } = message;
  const dismiss = React.useRef(onDismiss);
  dismiss.current = onDismiss;
  React.useEffect(() => {
    if (error || undo) {
      return;
    }
    const timer = setTimeout(() => dismiss.current(), INFO_SECONDS * 1000);
    return () => clearTimeout(timer);
  }, [error, undo]);
  return (
    <div
      className={`jshm-message jshm-${error ? 'error' : 'info'}${undo ? ' jshm-undoable' : ''}`}
      role={error ? 'alert' : undefined}
      style={{ '--jshm-undo': `${UNDO_SECONDS}s` } as React.CSSProperties}
    >
      <p>
        <bdi>{text}</bdi> {error && <Remedies error={error} />}
      </p>
      {undo && (
        <Button
          className="jshm-link"
          onClick={() => {
            onDismiss();
            undo();
          }}
        >
          {trans.__('Undo')}
        </Button>
      )}
      <IconButton icon="close" label={trans.__('Dismiss')} onClick={onDismiss} />
    </div>
  );
}

export function Messages({ messages, dismiss }: IMessages): React.JSX.Element {
  const spoken = messages.filter(message => !message.error);
  return (
    <div className="jshm-messages">
      <div className="jshm-spoken" role="status" aria-live="polite">
        {spoken.length ? spoken[spoken.length - 1].text : ''}
      </div>
      {messages.map(message => (
        <Bar key={message.id} message={message} onDismiss={() => dismiss(message.id)} />
      ))}
    </div>
  );
}

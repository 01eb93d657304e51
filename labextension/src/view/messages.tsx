/** Bars at the bottom: what was done, with Undo where there is one, and what failed. */
import * as React from 'react';
import { useSurroundings } from './context';
import { Button, IconButton } from './icons';
import { undoSeconds, type BackendError } from './types';

const INFO_SECONDS = 6;
const MOST_BARS = 4;

export interface IMessage {
  id: number;
  level: 'info' | 'error';
  text: string;
  remedy: string;
  undo: (() => void) | null;
}

export interface IMessages {
  messages: readonly IMessage[];
  say(text: string, undo?: () => void): void;
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
        ...old.filter(each => each.text !== message.text || each.undo).slice(1 - MOST_BARS),
        { ...message, id }
      ]);
    };
    return {
      messages,
      say: (text, undo) => add({ level: 'info', text, remedy: '', undo: undo ?? null }),
      fail: error => add({ level: 'error', text: error.message, remedy: error.remedy, undo: null }),
      dismiss: id => setMessages(old => old.filter(message => message.id !== id))
    };
  }, [messages]);
}

function Bar({ message, onDismiss }: { message: IMessage; onDismiss(): void }): React.JSX.Element {
  const { trans } = useSurroundings();
  const { level, text, remedy, undo } = message;
  const dismiss = React.useRef(onDismiss);
  dismiss.current = onDismiss;
  React.useEffect(() => {
    if (level === 'error') {
      return;
    }
    const seconds = undo ? undoSeconds : INFO_SECONDS;
    const timer = setTimeout(() => dismiss.current(), seconds * 1000);
    return () => clearTimeout(timer);
  }, [level, undo]);
  return (
    <div
      className={`jshm-message jshm-${level}${undo ? ' jshm-undoable' : ''}`}
      role={level === 'error' ? 'alert' : undefined}
      style={{ '--jshm-undo': `${undoSeconds}s` } as React.CSSProperties}
    >
      <p>
        <bdi>{text}</bdi> {remedy}
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
  const spoken = messages.filter(message => message.level === 'info');
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

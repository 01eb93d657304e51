import * as React from 'react';
import { Button } from './icons';
import { useSurroundings } from './context';

export interface IDialogProps {
  title: string;
  /** What the button says that does it. */
  accept: string;
  disabled?: boolean;
  onAccept(): void;
  onClose(): void;
  children: React.ReactNode;
}

/** A question that waits for its answer. */
export function Dialog(props: IDialogProps): React.JSX.Element {
  const { trans } = useSurroundings();
  const ref = React.useRef<HTMLDialogElement>(null);
  const title = React.useRef(`jshm-title-${Math.random().toString(36).slice(2)}`).current;
  React.useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement) {
        before.focus({ preventScroll: true });
      }
    };
  }, []);
  return (
    <dialog
      ref={ref}
      className="jshm-dialog"
      aria-labelledby={title}
      onCancel={event => {
        event.preventDefault();
        props.onClose();
      }}
      onKeyDown={event => event.stopPropagation()}
    >
      <h3 id={title}>{props.title}</h3>
      <div className="jshm-dialog-body">{props.children}</div>
      <div className="jshm-buttons">
        <Button className="jshm-button" onClick={props.onClose}>
          {trans.__('Cancel')}
        </Button>
        <Button
          className="jshm-button jshm-danger"
          disabled={props.disabled}
          onClick={props.onAccept}
        >
          {props.accept}
        </Button>
      </div>
    </dialog>
  );
}

import * as React from 'react';
import { Button } from './icons';
import { useSurroundings } from './context';

export interface IDialogProps {
  title: string;
  /** The label of the button that accepts. */
  accept: string;
  disabled?: boolean;
  onAccept(): void;
  onClose(): void;
  children: React.ReactNode;
}

/** A modal question. */
export function Dialog(props: IDialogProps): React.JSX.Element {
  const { trans } = useSurroundings();
  const ref = React.useRef<HTMLDialogElement>(null);
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
      aria-label={props.title}
      onCancel={event => {
        event.preventDefault();
        props.onClose();
      }}
      onKeyDown={event => event.stopPropagation()}
    >
      <h3>{props.title}</h3>
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

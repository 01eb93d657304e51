import type { IDisposable } from '@lumino/disposable';
import { MessageLoop } from '@lumino/messaging';
import type { Widget } from '@lumino/widgets';

/** Call `begin` when a widget becomes visible, and dispose its result when the widget is hidden. */
export function whileVisible(widget: Widget, begin: () => IDisposable): void {
  let held: IDisposable | null = null;
  const shown = () => {
    held ??= begin();
  };
  const hidden = () => {
    held?.dispose();
    held = null;
  };
  // Hooks run before the widget updates `isVisible`.
  MessageLoop.installMessageHook(widget, (_, message) => {
    if (message.type === 'after-show') {
      shown();
    } else if (message.type === 'after-attach') {
      if (!widget.isHidden && (!widget.parent || widget.parent.isVisible)) {
        shown();
      }
    } else if (message.type === 'before-hide' || message.type === 'before-detach') {
      hidden();
    }
    return true;
  });
  if (widget.isVisible) {
    shown();
  }
}

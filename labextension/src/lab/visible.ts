import type { IDisposable } from '@lumino/disposable';
import { MessageLoop } from '@lumino/messaging';
import type { Widget } from '@lumino/widgets';

/** Hold what `begin` returns for as long as a widget can be seen in its window. */
export function whileVisible(widget: Widget, begin: () => IDisposable): void {
  let held: IDisposable | null = null;
  const shown = () => {
    held ??= begin();
  };
  const hidden = () => {
    held?.dispose();
    held = null;
  };
  // Hooks are called before the widget itself knows: `isVisible` is not to be asked yet.
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

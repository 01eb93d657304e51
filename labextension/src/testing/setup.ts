/** Parts of browsers that jsdom lacks. */
import { cleanup } from '@testing-library/react';
import { afterEach } from 'vitest';

class Observer {
  observe(): void {
    /* jsdom has no layout. */
  }
  unobserve(): void {
    /* As above. */
  }
  disconnect(): void {
    /* As above. */
  }
}

/** Reports at once that everything is in view. */
class InView extends Observer {
  constructor(private readonly callback: (entries: { isIntersecting: boolean }[]) => void) {
    super();
  }

  override observe(): void {
    this.callback([{ isIntersecting: true }]);
  }
}

/** Lumino's drag and drop needs this class. */
class Dragging extends MouseEvent {
  readonly dataTransfer = null;
}

Object.assign(globalThis, {
  DragEvent: Dragging,
  matchMedia: () => ({ matches: false, addEventListener: () => undefined }),
  ResizeObserver: Observer,
  IntersectionObserver: InView,
  IS_REACT_ACT_ENVIRONMENT: true
});

Object.assign(HTMLDialogElement.prototype, {
  showModal(this: HTMLDialogElement) {
    this.setAttribute('open', '');
  },
  close(this: HTMLDialogElement) {
    this.removeAttribute('open');
  }
});

HTMLCanvasElement.prototype.getContext = () => null;

afterEach(cleanup);

import * as React from 'react';
import type { Layout } from './layout';

/** Items beyond the edges that are drawn too, so that scrolling meets no gap. */
const OVERSCAN = 10;

export interface IWindow {
  first: number;
  /** The last one too is drawn. */
  last: number;
}

export function windowOf(layout: Layout, top: number, height: number): IWindow {
  return {
    first: Math.max(0, layout.at(top) - OVERSCAN),
    last: Math.min(layout.count - 1, layout.at(top + height) + OVERSCAN)
  };
}

/** Which items are near the part of a list that is on screen. */
export function useWindow(ref: React.RefObject<HTMLElement>, layout: Layout): IWindow {
  const [view, setView] = React.useState({ top: 0, height: 600 });
  React.useLayoutEffect(() => {
    const element = ref.current;
    if (!element) {
      return;
    }
    const update = () =>
      setView(old =>
        old.top === element.scrollTop && old.height === element.clientHeight
          ? old
          : { top: element.scrollTop, height: element.clientHeight || old.height }
      );
    update();
    element.addEventListener('scroll', update, { passive: true });
    const observer = new ResizeObserver(update);
    observer.observe(element);
    return () => {
      element.removeEventListener('scroll', update);
      observer.disconnect();
    };
  }, [ref]);
  return windowOf(layout, view.top, view.height);
}

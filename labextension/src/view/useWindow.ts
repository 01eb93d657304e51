import * as React from 'react';
import { useLatest, whenResized } from './hooks';
import type { Layout } from './layout';

/** The number of items beyond each edge that are drawn, so that scrolling shows no gap. */
const OVERSCAN = 10;

export interface IWindow {
  first: number;
  /** Inclusive. */
  last: number;
}

export function windowOf(layout: Layout, top: number, height: number): IWindow {
  return {
    first: Math.max(0, layout.at(top) - OVERSCAN),
    last: Math.min(layout.count - 1, layout.at(top + height) + OVERSCAN)
  };
}

/** The items near the visible part of a list. Call `look` after a change of `scrollTop` by code. */
export function useWindow(
  ref: React.RefObject<HTMLElement>,
  layout: Layout
): IWindow & { look(): void } {
  const [view, setView] = React.useState({ top: 0, height: 600 });
  const look = useLatest(() => {
    const element = ref.current;
    if (element) {
      const { scrollTop, clientHeight } = element;
      setView(old =>
        old.top === scrollTop && old.height === clientHeight
          ? old
          : { top: scrollTop, height: clientHeight || old.height }
      );
    }
  });
  React.useLayoutEffect(() => {
    const element = ref.current;
    if (!element) {
      return;
    }
    element.addEventListener('scroll', look, { passive: true });
    const end = whenResized(element, look);
    return () => {
      element.removeEventListener('scroll', look);
      end();
    };
  }, [ref, look]);
  return { ...windowOf(layout, view.top, view.height), look };
}

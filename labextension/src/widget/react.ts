/**
 * What the view uses of React, by Preact: the bundle has it in place of `react`, since anywidget sends the bundle
 * with every widget. `preact/compat` would do too, but half of it is for what the view does not use.
 */
import { options, render, type ComponentChild, type ComponentType, type VNode } from 'preact';

export { Component, createContext, createElement, Fragment } from 'preact';
export {
  useCallback,
  useContext,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState
} from 'preact/hooks';

/** Events that React calls otherwise than browsers. */
function eventOf(prop: string, element: string, type: unknown): string {
  switch (prop) {
    case 'onChange':
      return element === 'input' && type !== 'checkbox' ? 'onInput' : prop;
    case 'onFocus':
      return 'onfocusin';
    case 'onBlur':
      return 'onfocusout';
    default:
      return prop;
  }
}

const before = options.vnode;
options.vnode = (vnode: VNode<Record<string, unknown>>) => {
  const { type, props } = vnode;
  if (typeof type === 'string') {
    vnode.props = Object.fromEntries(
      Object.entries(props).map(([prop, value]) => [eventOf(prop, type, props.type), value])
    ) as typeof props;
  }
  before?.(vnode);
};

/** Preact draws the few rows that are on screen in a millisecond or two: to compare them saves nothing. */
export function memo<P extends object>(type: ComponentType<P>): ComponentType<P> {
  return type;
}

export interface IRoot {
  render(what: ComponentChild): void;
  unmount(): void;
}

export function createRoot(element: HTMLElement): IRoot {
  return {
    render: what => render(what, element),
    unmount: () => render(null, element)
  };
}

/**
 * The part of React that the view uses, from Preact. It replaces `react` in the bundle, because anywidget sends the
 * bundle with every widget. Half of `preact/compat` would be code that the view does not need.
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

/** The name of an event for which React has another name than browsers. */
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

/** Does nothing: Preact draws the few visible rows in a millisecond or two, so comparing them saves nothing. */
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

import * as React from 'react';

/** From this width on the list is a table. */
const WIDE_PX = 560;
const USUAL_FONT_PX = 13;

export interface ISpace {
  wide: boolean;
  /** Pixels. The heights of rows depend on it. */
  fontSize: number;
}

function measure(element: HTMLElement): ISpace {
  const size = parseFloat(getComputedStyle(element).fontSize);
  return { wide: element.clientWidth >= WIDE_PX, fontSize: size > 0 ? size : USUAL_FONT_PX };
}

/** Call `update` now, and whenever the size of an element changes; returns how to stop that. */
export function whenResized(element: HTMLElement, update: () => void): () => void {
  update();
  const observer = new ResizeObserver(update);
  observer.observe(element);
  return () => observer.disconnect();
}

/** Pass an answer to a callback; returns how to stop that. */
export function whenAnswered<T>(
  answer: Promise<T>,
  take: (answer: T) => void,
  fail: (reason: unknown) => void
): () => void {
  let gone = false;
  answer.then(
    given => !gone && take(given),
    (reason: unknown) => !gone && fail(reason)
  );
  return () => {
    gone = true;
  };
}

/** The width class and the font size of an element. */
export function useSpace(ref: React.RefObject<HTMLElement>): ISpace {
  const [space, setSpace] = React.useState<ISpace>({ wide: false, fontSize: USUAL_FONT_PX });
  React.useLayoutEffect(() => {
    const element = ref.current;
    if (!element) {
      return;
    }
    const update = () =>
      setSpace(old => {
        const now = measure(element);
        return now.wide === old.wide && now.fontSize === old.fontSize ? old : now;
      });
    return whenResized(element, update);
  }, [ref]);
  return space;
}

/** The height of an element; the last one while it is not in the document. */
export function useHeight(initial: number): [number, React.RefCallback<HTMLElement>] {
  const [height, setHeight] = React.useState(initial);
  const end = React.useRef<(() => void) | undefined>(undefined);
  const ref = React.useCallback((element: HTMLElement | null) => {
    end.current?.();
    end.current =
      element === null
        ? undefined
        : whenResized(element, () => element.offsetHeight > 0 && setHeight(element.offsetHeight));
  }, []);
  return [height, ref];
}

/** Whether an element is on screen: not in a hidden panel or tab, and not scrolled away. */
export function useOnScreen(ref: React.RefObject<HTMLElement>): boolean {
  const [inView, setInView] = React.useState(true);
  const [inFront, setInFront] = React.useState(document.visibilityState !== 'hidden');
  React.useEffect(() => {
    const update = () => setInFront(document.visibilityState !== 'hidden');
    document.addEventListener('visibilitychange', update);
    return () => document.removeEventListener('visibilitychange', update);
  }, []);
  React.useEffect(() => {
    const element = ref.current;
    if (!element) {
      return;
    }
    const observer = new IntersectionObserver(entries =>
      setInView(entries[entries.length - 1].isIntersecting)
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return inView && inFront;
}

/** A value that follows another one once that has not changed for a while. */
export function useDebounced<T>(value: T, milliseconds: number): T {
  const [settled, setSettled] = React.useState(value);
  React.useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}

/** A state that the surroundings may control. */
export function useControlled<T>(
  value: T | undefined,
  onChange: ((value: T) => void) | undefined,
  initial: T
): [T, (value: T) => void] {
  const [own, setOwn] = React.useState(initial);
  const change = useLatest((next: T) => {
    setOwn(next);
    onChange?.(next);
  });
  return [value === undefined ? own : value, change];
}

/** A function that never changes and calls the latest one given. */
export function useLatest<A extends unknown[], R>(latest: (...args: A) => R): (...args: A) => R {
  const ref = React.useRef(latest);
  React.useLayoutEffect(() => {
    ref.current = latest;
  });
  return React.useCallback((...args: A) => ref.current(...args), []);
}

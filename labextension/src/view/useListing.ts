import * as React from 'react';
import { Listing, type Question } from './listing';
import type { IBackend } from './types';

/** The loaded list. It is read again when it may have changed, but only while it is on screen. */
export function useListing(
  backend: IBackend,
  question: Question,
  onScreen: boolean,
  pollSeconds: number
): Listing {
  const [, setChanges] = React.useState(0);
  const first = React.useRef(question);
  first.current = question;
  const listing = React.useMemo(() => new Listing(backend, first.current), [backend]);
  const stale = React.useRef(false);

  React.useEffect(() => {
    const end = listing.subscribe(() => setChanges(listing.snapshot()));
    return () => {
      end();
      listing.dispose();
    };
  }, [listing]);

  React.useEffect(() => listing.ask(question), [listing, question]);

  React.useEffect(() => {
    if (!onScreen) {
      return;
    }
    if (stale.current) {
      stale.current = false;
      listing.refresh();
    }
    const unsubscribe = backend.subscribe(() => listing.refresh());
    const timer =
      pollSeconds > 0 ? setInterval(() => listing.refresh(), pollSeconds * 1000) : undefined;
    return () => {
      // Changes while it is hidden are read when it is on screen again.
      stale.current = true;
      unsubscribe();
      clearInterval(timer);
    };
  }, [backend, listing, onScreen, pollSeconds]);

  return listing;
}

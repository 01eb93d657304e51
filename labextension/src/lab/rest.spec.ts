import { ServerConnection } from '@jupyterlab/services';
import { describe, expect, it, vi } from 'vitest';
import { BackendError, nullTranslator, type IQuery } from '../view';
import { namePath, queryString, RestBackend } from './rest';

const QUERY: IQuery = {
  filter: 'a b&c=ü',
  sort: 'size',
  descending: true,
  grouped: false,
  unused: false,
  offset: 200,
  limit: 100
};

type Answer = { status?: number; body?: string; json?: unknown } | Error;

function backendOf(answer: Answer) {
  const fetch = vi.fn<(request: Request) => Promise<Response>>(() =>
    answer instanceof Error
      ? Promise.reject(answer)
      : Promise.resolve(
          new Response(answer.body ?? JSON.stringify(answer.json), { status: answer.status ?? 200 })
        )
  );
  const settings = ServerConnection.makeSettings({
    baseUrl: 'http://host/user/ann/',
    fetch: fetch as unknown as typeof globalThis.fetch
  });
  return { backend: new RestBackend(settings, nullTranslator), fetch };
}

function asked(fetch: ReturnType<typeof backendOf>['fetch']): Request {
  return fetch.mock.calls[0][0];
}

/** The URL without the number that Lab appends against caches. */
function address(fetch: ReturnType<typeof backendOf>['fetch']): string {
  return asked(fetch).url.replace(/[?&]\d+$/, '');
}

async function failure(answer: Answer): Promise<BackendError> {
  const error: unknown = await backendOf(answer)
    .backend.list(QUERY)
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(BackendError);
  return error as BackendError;
}

describe('requests', () => {
  it('encode the components of names, and keep slashes', () => {
    expect(namePath('exp1/größe #1?&%')).toBe('exp1/gr%C3%B6%C3%9Fe%20%231%3F%26%25');
  });

  it('write a query with booleans as 1 and 0', () => {
    expect(queryString(QUERY)).toBe(
      '?filter=a+b%26c%3D%C3%BC&sort=size&descending=1&grouped=0&unused=0&offset=200&limit=100'
    );
  });

  it('are below the base URL', async () => {
    const { backend, fetch } = backendOf({ json: {} });
    await backend.preview('exp1/X', 3);
    expect(address(fetch)).toBe('http://host/user/ann/jshm/api/previews/exp1/X?version=3');
  });

  it('release names with the versions that the user saw', async () => {
    const { backend, fetch } = backendOf({ json: [{ name: 'X', nbytes: 8, heldBy: ['a'] }] });
    expect(await backend.release([{ name: 'X', version: 3, nbytes: 8 }])).toEqual([
      { name: 'X', nbytes: 8, freed: 0, heldBy: ['a'], neededBy: [] }
    ]);
    expect(asked(fetch).method).toBe('POST');
    expect(await asked(fetch).json()).toEqual({ names: ['X'], versions: { X: 3 } });
  });
});

describe('an answer of another version', () => {
  it('is read as empty values where something is missing or of another type', async () => {
    const page = await backendOf({
      json: {
        total: 1,
        rows: [{ name: 'X', holders: null, older: {}, publisher: 'me' }],
        groups: 3
      }
    }).backend.list(QUERY);
    expect(page.groups).toEqual([]);
    expect(page.rows[0]).toMatchObject({ name: 'X', nbytes: 0, holders: [], older: [], shape: [] });
    expect(page.rows[0].publisher).toEqual({ label: '', path: '', alive: false, here: false });
    expect(page.summary.notices).toEqual([]);
  });

  it('has no preview if its type is unknown', async () => {
    const known = { json: { type: 'line', low: [1, null], high: [2, null], histogram: null } };
    expect(await backendOf(known).backend.preview('X', 1)).toEqual({
      type: 'line',
      low: [1, null],
      high: [2, null],
      histogram: null,
      stats: null
    });
    for (const type of ['hologram', 'constructor', undefined, 3]) {
      expect((await backendOf({ json: { type } }).backend.preview('X', 1)).type).toBe('none');
    }
  });

  it.each([[null], [[]], ['X'], [7]])('that is not an object (%j) is refused', async json => {
    expect((await failure({ json })).reason).toBe('unreachable');
  });

  it('that is not JSON is refused', async () => {
    expect((await failure({ body: '<html>log in</html>' })).reason).toBe('unreachable');
    expect((await failure({ body: '' })).reason).toBe('unreachable');
  });
});

describe('a failure', () => {
  it('of jshm keeps its message and its remedies', async () => {
    for (const [status, reason] of [
      [404, 'missing'],
      [409, 'refused'],
      [503, 'store']
    ] as const) {
      const remedy = {
        action: 'release',
        names: ['X'],
        options: { force: true },
        purpose: 'Retire'
      };
      const json = { reason, message: 'no X', remedies: [remedy] };
      expect(await failure({ status, json })).toMatchObject(json);
    }
  });

  it('404 of Jupyter means that the extension is not enabled', async () => {
    const jupyters = { message: 'Not Found', reason: null };
    for (const answer of [{ json: jupyters }, { body: '<html>' }, { json: null }]) {
      const error = await failure({ status: 404, ...answer });
      expect(error.reason).toBe('absent');
      expect(error.hint).toContain('pip install jshm');
    }
  });

  it.each([401, 403])('%i means not logged in', async status => {
    expect((await failure({ status, json: { message: 'Forbidden' } })).reason).toBe('forbidden');
  });

  it('of the server or of the network means that the server is unreachable', async () => {
    expect((await failure({ status: 502, body: 'Bad Gateway' })).reason).toBe('unreachable');
    expect((await failure(new TypeError('Failed to fetch'))).reason).toBe('unreachable');
  });

  it('with an unknown reason is known by its status', async () => {
    const json = { reason: 'toString', message: 'x' };
    expect((await failure({ status: 500, json })).reason).toBe('unreachable');
  });
});

describe('a server that hangs', () => {
  it('makes the view wait, and then give up', async () => {
    vi.useFakeTimers();
    try {
      const fetch = vi.fn(
        ({ signal }: Request) =>
          new Promise<Response>((_, reject) =>
            signal.addEventListener('abort', () => reject(new Error('aborted')))
          )
      );
      const settings = ServerConnection.makeSettings({
        fetch: fetch as unknown as typeof globalThis.fetch
      });
      const backend = new RestBackend(settings, nullTranslator);
      const waiting = vi.fn();
      const end = backend.onWaiting(waiting);
      const failed = backend.list(QUERY).catch((reason: unknown) => reason);
      const other = backend.summary().catch((reason: unknown) => reason);
      await vi.advanceTimersByTimeAsync(1900);
      expect(waiting.mock.calls).toEqual([[false]]);
      await vi.advanceTimersByTimeAsync(200);
      expect(waiting.mock.calls).toEqual([[false], [true]]);
      await vi.advanceTimersByTimeAsync(13_000);
      expect(await failed).toMatchObject({ reason: 'unreachable' });
      expect((await failed) as BackendError).toHaveProperty(
        'hint',
        expect.stringContaining('hangs')
      );
      await other;
      expect(waiting.mock.calls).toEqual([[false], [true], [false]]);
      end();
    } finally {
      vi.useRealTimers();
    }
  });
});

it('notifies subscribers until they unsubscribe', () => {
  const { backend } = backendOf({ json: {} });
  const changed = vi.fn();
  const end = backend.subscribe(changed);
  backend.notify();
  end();
  backend.notify();
  expect(changed).toHaveBeenCalledTimes(1);
});

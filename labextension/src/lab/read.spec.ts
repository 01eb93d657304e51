import { describe, expect, it } from 'vitest';
import { read, readPreview } from './read';

describe('reading an answer', () => {
  it('keeps what has the right type', () => {
    const error = {
      reason: 'refused',
      message: 'no',
      remedies: [
        { action: 'release', names: ['X'], options: { force: true, mode: 'c' }, purpose: 'Retire' }
      ]
    };
    expect(read('Error', error)).toEqual(error);
    const holder = { label: 'a', path: '', alive: true, here: false, mode: 'r+', pid: 7 };
    expect(read('Holder', holder)).toEqual(holder);
    expect(read('Details', { modules: { numpy: '2' }, references: { X: 8 } })).toMatchObject({
      modules: { numpy: '2' },
      references: { X: 8 },
      name: '',
      order: 'C'
    });
  });

  it('replaces what is missing, unknown or of another type', () => {
    expect(read('Holder', { pid: '7', mode: 'x', alive: 1, label: null })).toEqual({
      label: '',
      path: '',
      alive: false,
      here: false,
      mode: 'r',
      pid: 0
    });
    expect(read('Row', null)).toMatchObject({ state: 'current', lifetime: 'process', shape: [] });
    expect(read('Details', { modules: 3 }).modules).toEqual({});
  });

  it('drops fields that it does not know', () => {
    expect(Object.keys(read('Group', { id: 'a', more: 1 }))).not.toContain('more');
  });

  it('reads null where it may be, and optional fields only if they are there', () => {
    const line = { type: 'line', low: [1, null, 'x'], high: [], histogram: 3 };
    const stats = { min: 1, max: null, mean: 'x', nan: 0, count: 1, total: 1, exact: true };
    expect(readPreview({ ...line, stats }, '')).toEqual({
      ...line,
      low: [1, null, null],
      histogram: null,
      stats: { ...stats, mean: null }
    });
    expect(read('Stats', { ...stats, infinite: 2, of: 'magnitude' })).toMatchObject({
      infinite: 2,
      of: 'magnitude'
    });
    expect(read('Stats', { ...stats, infinite: 'x', of: 'y' })).not.toHaveProperty('infinite');
  });

  it('says so for an unknown preview', () => {
    for (const raw of [{ type: 'hologram' }, {}, null, 3]) {
      expect(readPreview(raw, 'unknown')).toEqual({ type: 'none', text: 'unknown', stats: null });
    }
  });
});

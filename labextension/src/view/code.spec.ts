import { describe, expect, it } from 'vitest';
import { attachCode, pythonString, variableFor } from './code';

describe('variableFor', () => {
  it.each([
    ['X', 'X'],
    ['exp1/weights', 'weights'],
    ['my-data', 'my_data'],
    ['exp1/2024', 'my_2024'],
    ['class', 'my_class'],
    ['None', 'my_None'],
    ['match', 'match'],
    ['größe', 'größe'],
    ['ﬁt', 'fit'],
    ['a.b', 'a_b'],
    ['данные', 'данные'],
    ['a b"c', 'a_b_c']
  ])('%s', (name, variable) => {
    expect(variableFor(name)).toBe(variable);
  });
});

describe('attachCode in Python', () => {
  it.each([
    ['X', 'r', 'import jshm\nX = jshm.attach("X")'],
    ['exp1/X', 'c', 'import jshm\nX = jshm.attach("exp1/X", mode="c")'],
    ['my-data', 'r+', 'import jshm\nmy_data = jshm.attach("my-data", mode="r+")']
  ] as const)('%s', (name, mode, code) => {
    expect(attachCode(name, false, mode)).toBe(code);
  });

  it('escapes quotes and invisible characters', () => {
    expect(pythonString('a"b\\c\nd')).toBe('"a\\"b\\\\c\\nd"');
    expect(pythonString('x\u202egnp.exe')).toBe('"x\\u202egnp.exe"');
    expect(pythonString('\u0000\u2028\ud800')).toBe('"\\u0000\\u2028\\ud800"');
    expect(pythonString('größe 表')).toBe('"größe 表"');
  });

  it('stays on its two lines for any name', () => {
    for (const name of ['");import os#', 'a\nb', "'", '\\', '"""', '\r', '\u2029']) {
      const [first, second, ...rest] = attachCode(name, false).split(/\r|\n|\u2028|\u2029/);
      expect(first).toBe('import jshm');
      expect(second).toMatch(/^[\p{L}\p{N}_]+ = jshm\.attach\(".*"\)$/u);
      expect(rest).toEqual([]);
    }
  });
});

describe('attachCode as a magic', () => {
  it.each([
    ['X', 'r', '%shm_attach X'],
    ['exp1/X', 'r', '%shm_attach exp1/X'],
    ['exp1/my-data', 'c', '%shm_attach exp1/my-data --as my_data --mode c'],
    ['a b', 'r', "%shm_attach 'a b' --as a_b"],
    ["it's", 'r', `%shm_attach 'it'"'"'s' --as it_s`],
    ['a#b', 'r', "%shm_attach 'a#b' --as a_b"],
    ['-x', 'r', "%shm_attach '-x' --as _x"]
  ] as const)('%s', (name, mode, code) => {
    expect(attachCode(name, true, mode)).toBe(code);
  });

  it.each(['a\nb', '$HOME', '{x}', 'a\u202eb'])('is Python where a magic cannot say %j', name => {
    expect(attachCode(name, true)).toMatch(/^import jshm\n/);
  });
});

import { describe, expect, it } from 'vitest';
import schema from '../../schema/plugin.json';
import { defaultSettings, parseSettings } from './settings';

describe('settings', () => {
  it('have the defaults of the schema', () => {
    const defaults = Object.fromEntries(
      Object.entries(schema.properties).map(([key, property]) => [key, property.default])
    );
    expect(defaults).toEqual(defaultSettings);
    expect(parseSettings({})).toEqual(defaultSettings);
  });

  it('are read if they are valid', () => {
    const chosen = {
      refreshSeconds: 45,
      attachMode: 'c',
      attachCode: 'magic',
      confirmRelease: false,
      showStatusBar: false
    };
    expect(parseSettings(chosen)).toEqual(chosen);
  });

  it('are ignored if they are invalid', () => {
    const wrong = {
      refreshSeconds: 'often',
      attachMode: 'r+',
      attachCode: null,
      confirmRelease: 'no',
      showStatusBar: 0
    };
    expect(parseSettings(wrong)).toEqual(defaultSettings);
  });

  it.each([
    [0, 5],
    [-1, 5],
    [1e12, 60],
    [NaN, 30]
  ])('look every %d seconds as if every %d', (given, taken) => {
    expect(parseSettings({ refreshSeconds: given }).refreshSeconds).toBe(taken);
  });
});

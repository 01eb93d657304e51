import { expect, it } from 'vitest';
import { remedyCode, remedyLabel } from './remedyCode';
import { nullTranslator } from './translate';
import type { IHost, IRemedy } from './types';

const host: IHost = { attachCode: () => '', copy: () => Promise.resolve() };

function remedy(action: IRemedy['action'], names: string[] = [], options = {}): IRemedy {
  return { action, names, options, purpose: '' };
}

it.each([
  [remedy('detach', ['X']), '%shm_detach X'],
  [remedy('release', ['X', 'a b'], { force: true }), "%shm_release X 'a b' --force"],
  [remedy('attach', ['X'], { mode: 'c', trust: false }), '%shm_attach X --mode c'],
  [remedy('check', [], { fix: true }), '!jshm check --fix'],
  [remedy('gc'), '!jshm gc']
])('the code of a remedy is a magic or a shell command (%#)', (given, code) => {
  expect(remedyCode(given)).toBe(code);
});

it('has a button if the view can apply the remedy', () => {
  const widget: IHost = { ...host, attach: () => Promise.resolve('') };
  expect(remedyLabel(remedy('release', ['X', 'Y']), host, nullTranslator)).toBe('Release X, Y');
  expect(remedyLabel(remedy('attach', ['X']), widget, nullTranslator)).toBe('Attach X');
  expect(remedyLabel(remedy('attach', ['X']), host, nullTranslator)).toBe('');
  expect(remedyLabel(remedy('detach', ['X']), widget, nullTranslator)).toBe('');
});

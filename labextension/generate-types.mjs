// Writes the TypeScript types of the messages, and their schemas for a check at run time, from openapi.yaml.
// With --check it writes nothing, and fails if a generated file is out of date.
import { readFile, writeFile } from 'node:fs/promises';
import { load } from 'js-yaml';
import openapiTS, { astToString } from 'openapi-typescript';

const HEADER = '/** Generated from `jshm/server/openapi.yaml` by `npm run build:types`. */\n';
const document = load(
  await readFile(new URL('../jshm/server/openapi.yaml', import.meta.url), 'utf8')
);

function withoutDescriptions(value) {
  if (Array.isArray(value)) {
    return value.map(withoutDescriptions);
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, each]) => key !== 'description' || typeof each !== 'string')
      .map(([key, each]) => [key, withoutDescriptions(each)])
  );
}

const { schemas } = document.components;
const types = astToString(await openapiTS({ ...document, paths: {}, components: { schemas } }));
const generated = {
  'src/generated/openapi.ts': HEADER + types.slice(types.indexOf('export interface components')),
  'src/generated/schemas.ts': `${HEADER}export const schemas = ${JSON.stringify(withoutDescriptions(schemas), null, 2)};\n`
};

for (const [path, text] of Object.entries(generated)) {
  const file = new URL(path, import.meta.url);
  if (!process.argv.includes('--check')) {
    await writeFile(file, text);
  } else if ((await readFile(file, 'utf8').catch(() => '')) !== text) {
    console.error(`${path} is not what openapi.yaml says: run npm run build:types`);
    process.exitCode = 1;
  }
}

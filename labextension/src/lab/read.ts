/**
 * Reads an answer of the server into the form that `openapi.yaml` describes.
 *
 * A server of another version may leave something out or add something. A missing value, or one of another
 * type, is read as an empty one, so that it cannot blank the panel.
 */
import { schemas } from '../generated/schemas';
import type { Messages } from '../view';

interface ISchema {
  $ref?: string;
  type?: string;
  enum?: readonly unknown[];
  nullable?: boolean;
  items?: ISchema;
  required?: readonly string[];
  properties?: Readonly<Record<string, ISchema>>;
  additionalProperties?: ISchema;
  allOf?: readonly ISchema[];
  oneOf?: readonly ISchema[];
}

type Fields = Record<string, unknown>;

const known: Readonly<Record<string, ISchema>> = schemas;

export function isObject(raw: unknown): raw is Fields {
  return typeof raw === 'object' && raw !== null && !Array.isArray(raw);
}

function resolved(schema: ISchema): ISchema {
  const name = schema.$ref?.slice(schema.$ref.lastIndexOf('/') + 1);
  return name === undefined ? schema : known[name];
}

function readObject({ properties, required, additionalProperties }: ISchema, raw: unknown): Fields {
  const given = isObject(raw) ? raw : {};
  if (additionalProperties) {
    const fields = Object.entries(given).map(([key, value]) => [
      key,
      readAs(additionalProperties, value)
    ]);
    return Object.fromEntries(fields) as Fields;
  }
  const fields: Fields = {};
  for (const [key, schema] of Object.entries(properties ?? {})) {
    if (required?.includes(key) || fits(resolved(schema), given[key])) {
      fields[key] = readAs(schema, given[key]);
    }
  }
  return fields;
}

/** Whether a value has the type of a schema, as far as an optional or a nullable value needs to know. */
function fits(schema: ISchema, raw: unknown): boolean {
  const { type } = schema;
  return schema.enum
    ? schema.enum.includes(raw)
    : type === 'object'
      ? isObject(raw)
      : type === 'array'
        ? Array.isArray(raw)
        : typeof raw === (type === 'integer' ? 'number' : type);
}

/** The alternative of a `oneOf` that a value is: by its `type`, or by its own type. */
function alternative({ oneOf = [] }: ISchema, raw: unknown): ISchema | undefined {
  const options = oneOf.map(resolved);
  return options.find(option =>
    option.properties
      ? isObject(raw) && option.properties.type.enum?.includes(raw.type)
      : fits(option, raw)
  );
}

function readAs(reference: ISchema, raw: unknown): unknown {
  const schema = resolved(reference);
  if (schema.nullable && !fits(schema, raw)) {
    return null;
  }
  if (schema.allOf) {
    return Object.assign({}, ...schema.allOf.map(part => readAs(part, raw))) as Fields;
  }
  if (schema.oneOf) {
    return readAs(alternative(schema, raw) ?? schema.oneOf[0], raw);
  }
  if (schema.enum) {
    // The first one stands for a value that this version does not know.
    return fits(schema, raw) ? raw : schema.enum[0];
  }
  switch (schema.type) {
    case 'object':
      return readObject(schema, raw);
    case 'array':
      return Array.isArray(raw) ? raw.map(item => readAs(schema.items ?? {}, item)) : [];
    case 'boolean':
      return raw === true;
    case 'string':
      return fits(schema, raw) ? raw : '';
    default:
      return fits(schema, raw) ? raw : 0;
  }
}

/** Reads a message of a kind that `openapi.yaml` names. */
export function read<K extends keyof Messages>(kind: K, raw: unknown): Messages[K] {
  return readAs(known[kind], raw) as Messages[K];
}

/** Reads a preview; one of an unknown type says `unknown`. */
export function readPreview(raw: unknown, unknown: string): Messages['Preview'] {
  return alternative(known.Preview, raw)
    ? read('Preview', raw)
    : { type: 'none', text: unknown, stats: isObject(raw) ? read('Stats', raw.stats) : null };
}

/**
 * Checks resources of a CloudFormation template against AWS's own specification (package aws-service-spec): that types,
 * properties and attributes exist, and values have the right type. Values that CloudFormation computes are not checked,
 * except for the attributes they use.
 */
import assert from 'node:assert/strict';
import { loadAwsServiceSpecSync } from '@aws-cdk/aws-service-spec';
import type { PropertyType, Resource, SpecDatabase } from '@aws-cdk/service-spec-types';
import { isScalar, parseDocument, visit } from 'yaml';
import { readDeployed } from './deploy.ts';

export interface Template {
  AWSTemplateFormatVersion: string;
  Parameters: Record<string, { Type: string; Default?: string }>;
  Resources: Record<string, { Type: string; DependsOn?: string; Properties: Record<string, unknown> }>;
  Outputs: Record<string, { Value: unknown }>;
}

const TAGS = ['Ref', 'GetAtt', 'Sub'];

/** A template of deploy/cloudformation with `!Ref X` as `{ Ref: 'X' }`, as CloudFormation itself reads it. */
export async function readTemplate(name: string): Promise<Template> {
  const customTags = TAGS.map((tag) => ({ tag: `!${tag}`, resolve: (value: string) => value }));
  const document = parseDocument(await readDeployed(`cloudformation/${name}`), { customTags });
  assert.deepEqual([document.errors, document.warnings], [[], []]);
  visit(document, {
    Scalar(_, node) {
      const tag = node.tag?.slice(1) ?? '';
      if (!TAGS.includes(tag) || !isScalar(node)) return undefined;
      const value = { [tag === 'Ref' ? 'Ref' : `Fn::${tag}`]: node.value };
      return document.createNode(value);
    },
  });
  return document.toJS() as Template;
}

/** Names that a template refers to but does not define, and parameters that it does not use. */
export function unresolved(template: Template): string[] {
  const names = [...Object.keys(template.Parameters), ...Object.keys(template.Resources)];
  const text = JSON.stringify(template);
  const refs = [...text.matchAll(/"(?:Ref|Fn::GetAtt)":"([^".]+)|\$\{([^}.]+)\}/g)].map(
    ([, ref, sub]) => ref ?? sub ?? '',
  );
  const depends = Object.values(template.Resources).flatMap(({ DependsOn }) => DependsOn ?? []);
  return [
    ...[...refs, ...depends].filter((name) => !names.includes(name) && !name.startsWith('AWS::')),
    ...Object.keys(template.Parameters).filter((name) => !refs.includes(name)),
  ];
}

interface TemplateResource {
  readonly Type: string;
  readonly Properties?: unknown;
}

type Resources = Readonly<Record<string, TemplateResource>>;
type Fields = Resource['properties'];

/** One line per problem; empty if there is none. */
export function problemsOf(resources: Resources): string[] {
  const spec = loadAwsServiceSpecSync();
  const check = checker(spec, resources);
  return Object.entries(resources).flatMap(([name, { Type, Properties = {} }]) => {
    const resource = find(spec, Type);
    return resource ? check.fields(Properties, resource.properties, name) : [`${name}: AWS knows no ${Type}`];
  });
}

const find = (spec: SpecDatabase, type: string): Resource | undefined =>
  [...spec.lookup('resource', 'cloudFormationType', 'equals', type)][0];

function checker(spec: SpecDatabase, resources: Resources) {
  function fields(value: unknown, known: Fields, at: string): string[] {
    if (!isObject(value)) return [`${at}: should be an object`];
    const given = Object.entries(value).flatMap(([name, each]) => {
      const field = known[name];
      return field ? values(each, field.type, `${at}.${name}`) : [`${at}.${name}: there is no such property`];
    });
    const missing = Object.keys(known).filter((name) => known[name]?.required && !(name in value));
    return [...given, ...missing.toSorted().map((name) => `${at}.${name}: is missing`)];
  }

  function values(value: unknown, type: PropertyType, at: string): string[] {
    const attribute = getAtt(value);
    if (attribute) return attributeProblem(attribute, at);
    if (isIntrinsic(value)) return [];
    const should = (what: string, is: boolean) => (is ? [] : [`${at}: should be ${what}`]);
    switch (type.type) {
      case 'ref':
        return fields(value, spec.get('typeDefinition', type.reference.$ref).properties, at);
      case 'array':
        if (!Array.isArray(value)) return should('a list', false);
        return value.flatMap((each, index) => values(each, type.element, `${at}.${index}`));
      case 'map':
        if (!isObject(value)) return should('an object', false);
        return Object.entries(value).flatMap(([name, each]) => values(each, type.element, `${at}.${name}`));
      case 'union': {
        const tries = type.types.map((each) => values(value, each, at));
        return tries.find((problems) => problems.length === 0) ?? tries[0] ?? [];
      }
      case 'integer':
        return should('a whole number', Number.isInteger(value));
      case 'number':
      case 'boolean':
        return should(`a ${type.type}`, typeof value === type.type);
      case 'string':
      case 'date-time':
        return should('a string', typeof value === 'string');
      case 'json':
        return [...should('an object', isObject(value)), ...attributesWithin(value, at)];
      case 'tag':
        return should('a tag', isObject(value));
      default:
        return [];
    }
  }

  function attributeProblem(attribute: string, at: string): string[] {
    const [name = '', ...rest] = attribute.split('.');
    const known = find(spec, resources[name]?.Type ?? '')?.attributes ?? {};
    return known[rest.join('.')] ? [] : [`${at}: ${name} has no attribute ${rest.join('.')}`];
  }

  /** Checks values without a specification, such as a policy. */
  function attributesWithin(value: unknown, at: string): string[] {
    const attribute = getAtt(value);
    if (attribute) return attributeProblem(attribute, at);
    return typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([name, each]) => attributesWithin(each, `${at}.${name}`))
      : [];
  }

  return { fields };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function isIntrinsic(value: unknown): boolean {
  const [name = '', ...others] = isObject(value) ? Object.keys(value) : [];
  return others.length === 0 && (name === 'Ref' || name.startsWith('Fn::'));
}

const getAtt = (value: unknown): string | undefined =>
  isIntrinsic(value) ? (value as Record<string, string | undefined>)['Fn::GetAtt'] : undefined;

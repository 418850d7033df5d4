import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { describeConfig } from './describe.ts';
import { shapeOf } from './load.ts';
import { optionTexts } from './option.ts';
import { sections } from './options.ts';

describe('docs/configuration.md', () => {
  it('docs/configuration.md matches the option table; `npm run docs` rewrites it', () => {
    assert.equal(readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8'), describeConfig());
  });

  it('docs/configuration.md has a row with a text for every option', () => {
    const page = describeConfig();
    for (const [name, schema] of Object.entries(sections)) {
      assert.ok(page.includes(`## \`[${name}]\``), name);
      for (const [option, type] of Object.entries(shapeOf(schema))) {
        assert.ok(optionTexts.get(type)?.text, `${name}.${option} has a text`);
        assert.ok(page.includes(`| \`${option}\` | `), `${name}.${option} has a row`);
      }
    }
  });

  it('docs/configuration.md shows defaults as the file would have them', () => {
    const page = describeConfig();
    assert.match(page, /\| `sns_host` \| .* \| \*\*mandatory\*\* \|/);
    assert.match(page, /\| `pool_size` \| .* \| `100` \|/);
    assert.match(page, /\| `presence` \| .* \| `"user"` \|/);
    assert.match(page, /\| `attributes` \| .* \| `\[\]` \|/);
    assert.match(page, /\| `listen` \| .* \| `"127\.0\.0\.1:5290"` \|/);
    assert.match(page, /\| `pm_messages_topic` \| .* \| — \|/);
  });
});

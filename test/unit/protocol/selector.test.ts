import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse, safeParse } from 'valibot';
import { isEmptySelector, labelSelectorSchema, selects } from '../../../src/protocol/index.ts';

const red = { colour: 'red' };

for (const [what, selector, meant, notMeant] of [
  ['a label', { matchLabels: red }, [{ ...red, size: 'xl' }], [{}, { colour: 'blue' }]],
  [
    'two labels, both of them',
    { matchLabels: { ...red, size: 'xl' } },
    [{ ...red, size: 'xl' }],
    [red, { size: 'xl' }],
  ],
  [
    'In',
    { matchExpressions: [{ key: 'colour', operator: 'In', values: ['red', 'blue'] }] },
    [red],
    [{}, { colour: '' }],
  ],
  [
    'NotIn, also of what has no such label',
    { matchExpressions: [{ key: 'colour', operator: 'NotIn', values: ['blue'] }] },
    [red, {}],
    [{ colour: 'blue' }],
  ],
  ['Exists', { matchExpressions: [{ key: 'colour', operator: 'Exists' }] }, [red, { colour: '' }], [{}]],
  ['DoesNotExist', { matchExpressions: [{ key: 'colour', operator: 'DoesNotExist' }] }, [{}], [red]],
  [
    'a name that every object of JavaScript has',
    { matchExpressions: [{ key: 'toString', operator: 'Exists' }] },
    [],
    [{}],
  ],
] as const) {
  test(`a selector of ${what} means what has it`, () => {
    const parsed = parse(labelSelectorSchema, selector);
    assert.ok(meant.every((labels) => selects(parsed, labels)));
    assert.ok(notMeant.every((labels) => !selects(parsed, labels)));
  });
}

test('a selector that says nothing means everything', () => {
  const parsed = parse(labelSelectorSchema, {});
  assert.ok(isEmptySelector(parsed) && selects(parsed, {}));
});

test('an operator that Kubernetes does not have is refused', () => {
  const selector = { matchExpressions: [{ key: 'colour', operator: 'Like', values: ['r*'] }] };
  assert.equal(safeParse(labelSelectorSchema, selector).success, false);
});

import * as v from 'valibot';

const pairs = v.record(v.string(), v.string());

/** Which namespaces an installation serves: `LabelSelector` of the Kubernetes API (meta/v1). */
export const labelSelectorSchema = v.strictObject({
  matchLabels: v.optional(pairs, {}),
  matchExpressions: v.optional(
    v.array(
      v.strictObject({
        key: v.pipe(v.string(), v.minLength(1)),
        operator: v.picklist(['In', 'NotIn', 'Exists', 'DoesNotExist']),
        values: v.optional(v.array(v.string()), []),
      }),
    ),
    [],
  ),
});
export type LabelSelector = v.InferOutput<typeof labelSelectorSchema>;

/** One that says nothing selects everything. */
export const isEmptySelector = ({ matchLabels, matchExpressions }: LabelSelector): boolean =>
  Object.keys(matchLabels).length === 0 && matchExpressions.length === 0;

type Requirement = LabelSelector['matchExpressions'][number];
type Labels = Readonly<Record<string, string>>;

const operators: Readonly<Record<Requirement['operator'], (value: string | undefined, values: string[]) => boolean>> = {
  In: (value, values) => value !== undefined && values.includes(value),
  NotIn: (value, values) => value === undefined || !values.includes(value),
  Exists: (value) => value !== undefined,
  DoesNotExist: (value) => value === undefined,
};

/** Whether something with these labels is meant: all that the selector says holds. */
export function selects({ matchLabels, matchExpressions }: LabelSelector, labels: Labels): boolean {
  const labelOf = (key: string): string | undefined => (Object.hasOwn(labels, key) ? labels[key] : undefined);
  return (
    Object.entries(matchLabels).every(([key, value]) => labelOf(key) === value) &&
    matchExpressions.every(({ key, operator, values }) => operators[operator](labelOf(key), values))
  );
}

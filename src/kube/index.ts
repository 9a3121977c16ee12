export type {
  V1ConfigMap,
  V1Container,
  V1ContainerPort,
  V1Deployment,
  V1Namespace,
  V1Node,
  V1Pod,
  V1PodTemplateSpec,
  V1Probe,
  V1ReplicaSet,
  V1ResourceRequirements,
  V1Secret,
  V1Service,
  V1ServicePort,
  V1StatefulSet,
} from '@kubernetes/client-node';
export {
  type AccessQuestion,
  type ApplyOptions,
  fieldManager,
  type Kube,
  type KubeTarget,
  type ListOptions,
  type LoadOptions,
  loadKube,
  loadKubeInCluster,
} from './client.ts';
export type { Identities, IssuedToken, ResourceAttributes, TokenWish, UserInfo } from './identity.ts';
export type { Informer, InformerChange, InformerOptions, KubeObject } from './informer.ts';
export { joinInformers } from './join.ts';
export { type Kind, kindOf, kinds, pathOf } from './kind.ts';
export type { PortForwardOptions } from './port-forward.ts';

//! Containers: ports, environment, probes, security context.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.core.v1
ContainerPort
   1 name           str
   2 hostPort       i32 min 0 max 65535
   3 containerPort* i32 min 1 max 65535
   4 protocol       str in TCP|UDP|SCTP = TCP
   5 hostIP         str
VolumeMount
   1 name*             str
   2 readOnly          bool
   3 mountPath*        str
   4 subPath           str
   5 mountPropagation  str? in None|HostToContainer|Bidirectional
   6 subPathExpr       str
   7 recursiveReadOnly str? in Disabled|IfPossible|Enabled
VolumeDevice
   1 name*       str
   2 devicePath* str
EnvVar
   1 name*     str
   2 value     str
   3 valueFrom EnvVarSource?
EnvVarSource
   1 fieldRef         ObjectFieldSelector?
   2 resourceFieldRef ResourceFieldSelector?
   3 configMapKeyRef  ConfigMapKeySelector?
   4 secretKeyRef     SecretKeySelector?
ObjectFieldSelector atomic
   1 apiVersion str = v1
   2 fieldPath* str
ResourceFieldSelector atomic
   1 containerName str
   2 resource*     str
   3 divisor       quantity
ConfigMapKeySelector atomic
   1 inline   LocalObjectReference
   2 key*     str
   3 optional bool?
SecretKeySelector atomic
   1 inline   LocalObjectReference
   2 key*     str
   3 optional bool?
EnvFromSource
   1 prefix       str
   2 configMapRef ConfigMapEnvSource?
   3 secretRef    SecretEnvSource?
ConfigMapEnvSource
   1 inline   LocalObjectReference
   2 optional bool?
SecretEnvSource
   1 inline   LocalObjectReference
   2 optional bool?
HTTPHeader
   1 name*  str
   2 value~ str
HTTPGetAction
   1 path        str          = /
   2 port*       intorstr
   3 host        str
   4 scheme      str          in HTTP|HTTPS = HTTP
   5 httpHeaders []HTTPHeader
TCPSocketAction
   1 port* intorstr
   2 host  str
GRPCAction
   1 port*    i32
   2 service! str? = ''
ExecAction
   1 command []str
SleepAction
   1 seconds* i64
Probe
   1 inline                       ProbeHandler
   2 initialDelaySeconds          i32
   3 timeoutSeconds               i32          = 1
   4 periodSeconds                i32          = 10
   5 successThreshold             i32          = 1
   6 failureThreshold             i32          = 3
   7 terminationGracePeriodSeconds i64?
ContainerResizePolicy
   1 resourceName*  str
   2 restartPolicy* str in NotRequired|RestartContainer
Capabilities
   1 add  []str
   2 drop []str
ResourceRequirements
   1 limits   {}quantity
   2 requests {}quantity
   3 claims   []ResourceClaim map(name)
ResourceClaim
   1 name~   str
   2 request str
Container
   1 name*                    str
   2 image                    str
   3 command                  []str
   4 args                     []str
   5 workingDir               str
   6 ports                    []ContainerPort         map(containerPort,protocol) merge(containerPort)
   7 env                      []EnvVar                map(name) merge(name)
   8 resources                ResourceRequirements
   9 volumeMounts             []VolumeMount           map(mountPath) merge(mountPath)
  10 livenessProbe            Probe?
  11 readinessProbe           Probe?
  12 lifecycle                Lifecycle?
  13 terminationMessagePath   str                     = /dev/termination-log
  14 imagePullPolicy          str                     in Always|Never|IfNotPresent
  15 securityContext          SecurityContext?
  16 stdin                    bool
  17 stdinOnce                bool
  18 tty                      bool
  19 envFrom                  []EnvFromSource
  20 terminationMessagePolicy str                     in File|FallbackToLogsOnError = File
  21 volumeDevices            []VolumeDevice          map(devicePath) merge(devicePath)
  22 startupProbe             Probe?
  23 resizePolicy             []ContainerResizePolicy
  24 restartPolicy            str?                    in Always
ProbeHandler
   1 exec      ExecAction?
   2 httpGet   HTTPGetAction?
   3 tcpSocket TCPSocketAction?
   4 grpc      GRPCAction?
LifecycleHandler
   1 exec      ExecAction?
   2 httpGet   HTTPGetAction?
   3 tcpSocket TCPSocketAction?
   4 sleep     SleepAction?
Lifecycle
   1 postStart LifecycleHandler?
   2 preStop   LifecycleHandler?
SeccompProfile
   1 type*            str  in Unconfined|RuntimeDefault|Localhost
   2 localhostProfile str?
AppArmorProfile
   1 type*            str  in Unconfined|RuntimeDefault|Localhost
   2 localhostProfile str?
EphemeralContainerCommon
   1 name*                    str
   2 image                    str
   3 command                  []str
   4 args                     []str
   5 workingDir               str
   6 ports                    []ContainerPort         map(containerPort,protocol) merge(containerPort)
   7 env                      []EnvVar                map(name) merge(name)
   8 resources                ResourceRequirements
   9 volumeMounts             []VolumeMount           map(mountPath) merge(mountPath)
  10 livenessProbe            Probe?
  11 readinessProbe           Probe?
  12 lifecycle                Lifecycle?
  13 terminationMessagePath   str                     = /dev/termination-log
  14 imagePullPolicy          str                     in Always|Never|IfNotPresent
  15 securityContext          SecurityContext?
  16 stdin                    bool
  17 stdinOnce                bool
  18 tty                      bool
  19 envFrom                  []EnvFromSource
  20 terminationMessagePolicy str                     in File|FallbackToLogsOnError = File
  21 volumeDevices            []VolumeDevice          map(devicePath) merge(devicePath)
  22 startupProbe             Probe?
  23 resizePolicy             []ContainerResizePolicy
  24 restartPolicy            str?                    in Always
EphemeralContainer
   1 inline              EphemeralContainerCommon
   2 targetContainerName str
LocalObjectReference atomic
   1 name str
SecurityContext
   1 capabilities             Capabilities?
   2 privileged               bool?
   3 seLinuxOptions           SELinuxOptions?
   4 runAsUser                i64?
   5 runAsNonRoot             bool?
   6 readOnlyRootFilesystem   bool?
   7 allowPrivilegeEscalation bool?
   8 runAsGroup               i64?
   9 procMount                str?                         in Default|Unmasked
  10 windowsOptions           WindowsSecurityContextOptions?
  11 seccompProfile           SeccompProfile?
  12 appArmorProfile          AppArmorProfile?
SELinuxOptions
   1 user  str
   2 role  str
   3 type  str
   4 level str
WindowsSecurityContextOptions
   1 gmsaCredentialSpecName str?
   2 gmsaCredentialSpec     str?
   3 runAsUserName          str?
   4 hostProcess            bool?
";

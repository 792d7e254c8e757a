//! Containers: ports, environment, probes, security context.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.core.v1
ContainerPort
   1 name           str -- A name that services and probes may use.
   2 hostPort       i32 min 0 max 65535 -- The port on the node that leads to it.
   3 containerPort~ i32 -- The port in the container.
   4 protocol       str in SCTP|TCP|UDP = TCP
   5 hostIP         str
VolumeMount
   1 name*             str -- The volume's name.
   2 readOnly          bool -- Do not allow writes.
   3 mountPath*        str -- Where it appears.
   4 subPath           str -- A path in the volume to show instead of its root.
   5 mountPropagation  str? enum Bidirectional|HostToContainer|None
   6 subPathExpr       str
   7 recursiveReadOnly str?
VolumeDevice
   1 name*       str
   2 devicePath* str
EnvVar -- An environment variable.
   1 name*     str -- The variable's name.
   2 value     str -- The value; $(NAME) stands for variables before it.
   3 valueFrom EnvVarSource? -- Where the value comes from.
EnvVarSource
   1 fieldRef         ObjectFieldSelector? -- A field of the pod.
   2 resourceFieldRef ResourceFieldSelector? -- A container's request or limit.
   3 configMapKeyRef  ConfigMapKeySelector? -- An entry of a config map.
   4 secretKeyRef     SecretKeySelector? -- An entry of a secret.
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
Probe -- A check of a container's health.
   1 inline                       ProbeHandler
   2 initialDelaySeconds          i32 -- How long to wait before the first check.
   3 timeoutSeconds               i32          = 1 -- How long a check may take.
   4 periodSeconds                i32          = 10 -- How often to check.
   5 successThreshold             i32          = 1 -- Successes in a row that make it pass.
   6 failureThreshold             i32          = 3 -- Failures in a row that make it fail.
   7 terminationGracePeriodSeconds i64? -- How long the container may take to end when this check failed.
ContainerResizePolicy
   1 resourceName*  str
   2 restartPolicy* str of NotRequired|RestartContainer
Capabilities
   1 add  []str
   2 drop []str
ResourceRequirements -- Resources that are asked for and limited.
   1 limits   {}quantity -- The most that may be used.
   2 requests {}quantity -- What is set aside.
   3 claims   []ResourceClaim map(name)
ResourceClaim
   1 name~   str
   2 request str
Container -- One container of a pod.
   1 name*                    str -- The container's name, unique in the pod.
   2 image                    str -- The image to run.
   3 command                  []str -- What to run instead of the image's entry point.
   4 args                     []str -- Arguments instead of the image's.
   5 workingDir               str -- The directory to start in, if other than the image's.
   6 ports                    []ContainerPort         map(containerPort,protocol) merge(containerPort) -- Ports that the container listens on.
   7 env                      []EnvVar                map(name) merge(name) -- Environment variables.
   8 resources                ResourceRequirements -- Resources that the container asks for and may use.
   9 volumeMounts             []VolumeMount           map(mountPath) merge(mountPath) -- Volumes and where they appear in the container.
  10 livenessProbe            Probe? -- A check that restarts the container when it fails.
  11 readinessProbe           Probe? -- A check that decides whether the pod gets traffic.
  12 lifecycle                Lifecycle? -- What to run after the start and before the end.
  13 terminationMessagePath   str                     = /dev/termination-log -- The file whose content becomes the container's last message.
  14 imagePullPolicy          str                     in Always|IfNotPresent|Never -- When the image is pulled.
  15 securityContext          SecurityContext? -- Users and privileges of this container; goes before the pod's.
  16 stdin                    bool -- Keep standard input open.
  17 stdinOnce                bool -- Close standard input when the first client leaves.
  18 tty                      bool -- Give the container a terminal.
  19 envFrom                  []EnvFromSource -- Config maps and secrets whose entries become environment variables.
  20 terminationMessagePolicy str                     in File|FallbackToLogsOnError = File -- Whether the log's end stands in for a missing last message.
  21 volumeDevices            []VolumeDevice          map(devicePath) merge(devicePath) -- Block devices and where they appear in the container.
  22 startupProbe             Probe? -- A check that must pass before the other two begin.
  23 resizePolicy             []ContainerResizePolicy
  24 restartPolicy            str?                     -- Always lets an init container keep running beside the others.
ProbeHandler
   1 exec      ExecAction? -- Run a command; zero means success.
   2 httpGet   HTTPGetAction? -- Ask by HTTP; 200 to 399 means success.
   3 tcpSocket TCPSocketAction? -- Open a connection.
   4 grpc      GRPCAction? -- Ask the gRPC health service.
LifecycleHandler
   1 exec      ExecAction?
   2 httpGet   HTTPGetAction?
   3 tcpSocket TCPSocketAction?
   4 sleep     SleepAction?
Lifecycle
   1 postStart LifecycleHandler?
   2 preStop   LifecycleHandler?
SeccompProfile
   1 type*            str  in Localhost|RuntimeDefault|Unconfined
   2 localhostProfile str?
AppArmorProfile
   1 type*            str  in Localhost|RuntimeDefault|Unconfined
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
  14 imagePullPolicy          str                     in Always|IfNotPresent|Never
  15 securityContext          SecurityContext?
  16 stdin                    bool
  17 stdinOnce                bool
  18 tty                      bool
  19 envFrom                  []EnvFromSource
  20 terminationMessagePolicy str                     in File|FallbackToLogsOnError = File
  21 volumeDevices            []VolumeDevice          map(devicePath) merge(devicePath)
  22 startupProbe             Probe?
  23 resizePolicy             []ContainerResizePolicy
  24 restartPolicy            str?
EphemeralContainer
   1 inline              EphemeralContainerCommon
   2 targetContainerName str
LocalObjectReference atomic
   1 name str
SecurityContext -- Users and privileges of a container.
   1 capabilities             Capabilities? -- Capabilities to add and drop.
   2 privileged               bool? -- Run with all privileges of the node.
   3 seLinuxOptions           SELinuxOptions?
   4 runAsUser                i64? -- The user to run as.
   5 runAsNonRoot             bool? -- Refuse to run as root.
   6 readOnlyRootFilesystem   bool? -- Make the image's file system read-only.
   7 allowPrivilegeEscalation bool? -- Whether a process may gain more privileges than its parent.
   8 runAsGroup               i64? -- The group to run as.
   9 procMount                str?                         in Default|Unmasked
  10 windowsOptions           WindowsSecurityContextOptions?
  11 seccompProfile           SeccompProfile? -- System calls that are allowed.
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

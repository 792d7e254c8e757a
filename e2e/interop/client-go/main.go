// What programs built on client-go do: typed protobuf clients, informers that begin with WatchList, server-side
// apply, watches that go on from a bookmark, a dynamic client on a custom resource, and leader election.
//
//	interop KUBECONFIG
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"
)

const namespace = "interop"

var failed int

func check(name string, run func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	began := time.Now()
	if err := run(ctx); err != nil {
		failed++
		fmt.Printf("FAIL  %s: %v\n", name, err)
		return
	}
	fmt.Printf("ok    %-52s %5.1f s\n", name, time.Since(began).Seconds())
}

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		panic(err)
	}
	config.QPS, config.Burst = 1000, 1000
	proto := rest.CopyConfig(config)
	proto.ContentType = "application/vnd.kubernetes.protobuf"
	proto.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client := kubernetes.NewForConfigOrDie(proto)
	dynamic := dynamic.NewForConfigOrDie(config)

	check("a namespace", func(ctx context.Context) error {
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		_, err := client.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{})
		return err
	})
	check("typed clients over protobuf", func(ctx context.Context) error { return typed(ctx, client) })
	check("informers follow what changes", func(ctx context.Context) error { return informer(ctx, client) })
	check("informers of metadata", func(ctx context.Context) error { return metadataOnly(ctx, config, client) })
	check("lists in pages, and a watch from there", func(ctx context.Context) error { return pages(ctx, client) })
	check("server-side apply and its conflicts", func(ctx context.Context) error { return applied(ctx, client) })
	check("updates that lose are tried again", func(ctx context.Context) error { return conflicts(ctx, client) })
	check("custom resources by a dynamic client", func(ctx context.Context) error { return custom(ctx, dynamic) })
	check("leader election and its hand-over", func(ctx context.Context) error { return elected(ctx, client) })
	check("the namespace goes with all that is in it", func(ctx context.Context) error { return gone(ctx, client) })
	if failed > 0 {
		os.Exit(1)
	}
}

func configMap(name, value string) *corev1.ConfigMap {
	labels := map[string]string{"interop": "yes"}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: map[string]string{"a": value}}
}

func expect(is bool, what string, values ...any) error {
	if is {
		return nil
	}
	return fmt.Errorf(what, values...)
}

func typed(ctx context.Context, client kubernetes.Interface) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	made, err := maps.Create(ctx, configMap("typed", "1"), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = maps.Create(ctx, configMap("typed", "1"), metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("created twice: %v", err)
	}
	made.Data["a"] = "2"
	if made, err = maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	read, err := maps.Get(ctx, "typed", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if err := expect(read.Data["a"] == "2" && read.UID == made.UID, "read %v", read); err != nil {
		return err
	}
	bad := configMap("Not A Name", "1")
	_, err = maps.Create(ctx, bad, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		return fmt.Errorf("a bad name: %v", err)
	}
	uid := made.UID + "x"
	err = maps.Delete(ctx, "typed", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("deleted another's: %v", err)
	}
	if err = maps.Delete(ctx, "typed", metav1.DeleteOptions{}); err != nil {
		return err
	}
	_, err = maps.Get(ctx, "typed", metav1.GetOptions{})
	return expect(apierrors.IsNotFound(err), "after its deletion: %v", err)
}

// WatchList is on in the environment that interop.py sets.
func informer(ctx context.Context, client kubernetes.Interface) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	for n := range 20 {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("early-%d", n), "1"), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().ConfigMaps()
	var added, updated, deleted atomic.Int32
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { added.Add(1) },
		UpdateFunc: func(any, any) { updated.Add(1) },
		DeleteFunc: func(any) { deleted.Add(1) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return errors.New("it did not sync")
	}
	for n := range 20 {
		object := configMap(fmt.Sprintf("early-%d", n), "2")
		if _, err := maps.Update(ctx, object, metav1.UpdateOptions{}); err != nil {
			return err
		}
		if err := maps.Delete(ctx, object.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	for ctx.Err() == nil && (updated.Load() < 20 || deleted.Load() < 20) {
		time.Sleep(10 * time.Millisecond)
	}
	// The root CA's is there, too.
	return expect(added.Load() >= 20 && updated.Load() == 20 && deleted.Load() == 20,
		"added %d, updated %d, deleted %d", added.Load(), updated.Load(), deleted.Load())
}

func metadataOnly(ctx context.Context, config *rest.Config, client kubernetes.Interface) error {
	only := metadata.NewForConfigOrDie(config).Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(namespace)
	if _, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, configMap("seen", "1"), metav1.CreateOptions{}); err != nil {
		return err
	}
	list, err := only.List(ctx, metav1.ListOptions{LabelSelector: "interop=yes"})
	if err != nil {
		return err
	}
	if len(list.Items) != 1 || list.Items[0].Name != "seen" || list.Items[0].Labels["interop"] != "yes" {
		return fmt.Errorf("listed %v", list.Items)
	}
	watching, err := only.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer watching.Stop()
	if err := client.CoreV1().ConfigMaps(namespace).Delete(ctx, "seen", metav1.DeleteOptions{}); err != nil {
		return err
	}
	event := <-watching.ResultChan()
	partial, is := event.Object.(*metav1.PartialObjectMetadata)
	return expect(is && event.Type == watch.Deleted && partial.Name == "seen", "watched %v", event)
}

func pages(ctx context.Context, client kubernetes.Interface) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	for n := range 25 {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("page-%02d", n), "1"), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	options := metav1.ListOptions{LabelSelector: "interop=yes", Limit: 10}
	seen, rounds := 0, 0
	for {
		list, err := maps.List(ctx, options)
		if err != nil {
			return err
		}
		seen, rounds = seen+len(list.Items), rounds+1
		if options.Continue = list.Continue; options.Continue == "" {
			options.ResourceVersion = list.ResourceVersion
			break
		}
	}
	if seen != 25 || rounds != 3 {
		return fmt.Errorf("%d in %d pages", seen, rounds)
	}
	watching, err := maps.Watch(ctx, metav1.ListOptions{LabelSelector: "interop=yes", ResourceVersion: options.ResourceVersion, AllowWatchBookmarks: true})
	if err != nil {
		return err
	}
	defer watching.Stop()
	err = maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "interop=yes"})
	if err != nil {
		return err
	}
	for left := 25; left > 0; {
		event := <-watching.ResultChan()
		if event.Type == watch.Deleted {
			left--
		} else if event.Type != watch.Bookmark {
			return fmt.Errorf("watched %v", event)
		}
	}
	return nil
}

func applied(ctx context.Context, client kubernetes.Interface) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	apply := func(manager, key string, force bool) error {
		wanted := applycorev1.ConfigMap("applied", namespace).WithData(map[string]string{"shared": manager, key: "x"})
		_, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager, Force: force})
		return err
	}
	if err := apply("one", "a", false); err != nil {
		return err
	}
	if err := apply("two", "b", false); !apierrors.IsConflict(err) {
		return fmt.Errorf("no conflict: %v", err)
	}
	if err := apply("two", "b", true); err != nil {
		return err
	}
	read, err := maps.Get(ctx, "applied", metav1.GetOptions{})
	if err != nil {
		return err
	}
	// What a program says that it owns can be taken out of an object and applied again.
	mine, err := applycorev1.ExtractConfigMap(read, "one")
	if err != nil {
		return err
	}
	return expect(read.Data["shared"] == "two" && len(read.Data) == 3 && len(mine.Data) == 1 && mine.Data["a"] == "x", "read %v, its own %v", read.Data, mine.Data)
}

func conflicts(ctx context.Context, client kubernetes.Interface) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	if _, err := maps.Create(ctx, configMap("counter", "0"), metav1.CreateOptions{}); err != nil {
		return err
	}
	const writers, times = 8, 10
	done := make(chan error, writers)
	for range writers {
		go func() {
			for range times {
				// More tries than the five of DefaultRetry: all write at once.
				often := wait.Backoff{Steps: 1000, Duration: time.Millisecond, Jitter: 1}
				err := retry.RetryOnConflict(often, func() error {
					read, err := maps.Get(ctx, "counter", metav1.GetOptions{})
					if err != nil {
						return err
					}
					var n int
					fmt.Sscan(read.Data["a"], &n)
					read.Data["a"] = fmt.Sprint(n + 1)
					_, err = maps.Update(ctx, read, metav1.UpdateOptions{})
					return err
				})
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			return err
		}
	}
	read, err := maps.Get(ctx, "counter", metav1.GetOptions{})
	if err != nil {
		return err
	}
	return expect(read.Data["a"] == fmt.Sprint(writers*times), "counted %s", read.Data["a"])
}

func custom(ctx context.Context, client dynamic.Interface) error {
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "gadgets.interop.example"},
		"spec": map[string]any{
			"group": "interop.example", "scope": "Namespaced",
			"names": map[string]any{"plural": "gadgets", "kind": "Gadget"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "properties": map[string]any{
					"spec":   map[string]any{"type": "object", "properties": map[string]any{"size": map[string]any{"type": "integer", "minimum": int64(1), "default": int64(3)}}},
					"status": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
				}}},
			}},
		},
	}}
	if _, err := definitions.Create(ctx, definition, metav1.CreateOptions{}); err != nil {
		return err
	}
	defer definitions.Delete(context.Background(), definition.GetName(), metav1.DeleteOptions{})
	gadgets := client.Resource(schema.GroupVersionResource{Group: "interop.example", Version: "v1", Resource: "gadgets"}).Namespace(namespace)
	gadget := func(spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "interop.example/v1", "kind": "Gadget", "metadata": map[string]any{"name": "g"}, "spec": spec,
		}}
	}
	made, err := gadgets.Create(ctx, gadget(map[string]any{}), metav1.CreateOptions{})
	for apierrors.IsNotFound(err) && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
		made, err = gadgets.Create(ctx, gadget(map[string]any{}), metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	size, _, _ := unstructured.NestedInt64(made.Object, "spec", "size")
	if size != 3 {
		return fmt.Errorf("no default in %v", made.Object)
	}
	wrong := gadget(map[string]any{"size": int64(0)})
	wrong.SetName("wrong")
	if _, err = gadgets.Create(ctx, wrong, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		return fmt.Errorf("size 0: %v", err)
	}
	made.Object["status"] = map[string]any{"phase": "good"}
	if made, err = gadgets.UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	phase, _, _ := unstructured.NestedString(made.Object, "status", "phase")
	return expect(phase == "good", "its status is %v", made.Object["status"])
}

func elected(ctx context.Context, client kubernetes.Interface) error {
	leads := make(chan string, 4)
	run := func(ctx context.Context, id string) {
		lock := &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: namespace},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: id},
		}
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: 6 * time.Second, RenewDeadline: 4 * time.Second, RetryPeriod: time.Second, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leads <- id },
				OnStoppedLeading: func() {},
			},
		})
	}
	first, stop := context.WithCancel(ctx)
	defer stop()
	go run(first, "one")
	if id := <-leads; id != "one" {
		return fmt.Errorf("%s leads", id)
	}
	second, end := context.WithCancel(ctx)
	defer end()
	go run(second, "two")
	stop()
	select {
	case id := <-leads:
		return expect(id == "two", "%s leads", id)
	case <-ctx.Done():
		return errors.New("nobody leads")
	}
}

func gone(ctx context.Context, client kubernetes.Interface) error {
	if err := client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}); err != nil {
		return err
	}
	for ctx.Err() == nil {
		_, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("it is still there")
}

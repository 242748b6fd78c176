// The studio's 3D head: shows a GLB that affetto wrote, at whatever time the stage's clock tells.
import {
  AmbientLight, AnimationMixer, Color, DirectionalLight, PerspectiveCamera, Scene, SRGBColorSpace, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";

export function open(canvas) {
  const renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true, preserveDrawingBuffer: true });
  renderer.outputColorSpace = SRGBColorSpace;
  renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
  const scene = new Scene();
  const camera = new PerspectiveCamera(24, 1, 0.01, 10);
  const controls = new OrbitControls(camera, canvas);
  controls.enablePan = false;
  controls.minDistance = 0.35;
  controls.maxDistance = 1.6;
  controls.target.set(0, -0.045, 0);
  home();
  for (const [color, strength, at] of [["#fff1e0", 2.2, [0.5, 0.6, 1]], ["#c8dcff", 1.1, [-1, 0.2, 0.7]], ["#ffffff", 1.4, [0.2, 0.9, -1]]]) {
    const light = new DirectionalLight(new Color(color), strength);
    light.position.set(...at);
    scene.add(light);
  }
  scene.add(new AmbientLight("#ffffff", 0.75));
  let mixer = null, model = null, shownAt = 0, closed = false;
  controls.addEventListener("change", draw);
  const resizing = new ResizeObserver(resize);
  resizing.observe(canvas.parentElement);
  resize();

  function home() {
    camera.position.copy(new Vector3(0.0, -0.03, 0.86));
    controls.update();
  }
  function resize() {
    const { clientWidth: width, clientHeight: height } = canvas.parentElement;
    if (!width || !height) return;
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
    draw();
  }
  function draw() {
    if (!closed) renderer.render(scene, camera);
  }
  return {
    async load(url) {
      const gltf = await new GLTFLoader().loadAsync(url);
      if (closed) return;
      if (model) scene.remove(model);
      model = gltf.scene;
      model.traverse((part) => { part.frustumCulled = false; });
      scene.add(model);
      mixer = gltf.animations.length ? new AnimationMixer(model) : null;
      if (mixer) for (const clip of gltf.animations) mixer.clipAction(clip).play();
      this.show(shownAt);
    },
    show(seconds) {
      shownAt = seconds;
      if (mixer) mixer.setTime(seconds);
      draw();
    },
    home() { home(); draw(); },
    get ready() { return model !== null; },
    close() {
      closed = true;
      resizing.disconnect();
      controls.dispose();
      renderer.dispose();
    },
  };
}

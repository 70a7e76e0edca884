// <croco3d-view src="scene.glb"></croco3d-view>: a scene to turn and zoom, without any server.
//
// GLB files of croco3d hold the first camera at the origin, looking along -z with y up, points or a
// surface, and one mesh named camera_N for each photograph.

import {
  Color,
  DoubleSide,
  Group,
  MeshBasicMaterial,
  PerspectiveCamera,
  PointsMaterial,
  Scene,
  Vector3,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

const BACKGROUND = 0x181b22;
// Of a cloud's points, so many are looked at to find its middle and extent.
const SAMPLES = 4000;

const STYLE = `
:host { display: block; position: relative; width: 100%; aspect-ratio: 4 / 3; max-height: 80vh;
  border-radius: 6px; overflow: hidden; background: #181b22; touch-action: none; }
canvas { display: block; width: 100%; height: 100%; outline: none; }
.bar { position: absolute; right: 8px; bottom: 8px; display: flex; gap: 6px; }
button { font: 600 14px/1 system-ui, sans-serif; color: #fff; background: rgb(62 68 82 / 85%);
  border: 0; border-radius: 4px; min-width: 44px; min-height: 36px; cursor: pointer; }
button:hover, button:focus-visible { background: rgb(98 106 124 / 95%); }
.state { position: absolute; inset: 0; display: grid; place-items: center; color: #cfd3dc;
  font: 15px system-ui, sans-serif; pointer-events: none; text-align: center; padding: 1em; }
`;

class SceneView extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    const root = this.attachShadow({ mode: "open" });
    root.innerHTML = `<style>${STYLE}</style><canvas tabindex="0" role="img"></canvas>
      <div class="state">Loading …</div>
      <div class="bar"><button data-act="smaller" aria-label="Smaller points">−</button>
      <button data-act="larger" aria-label="Larger points">+</button>
      <button data-act="cameras" aria-label="Show or hide the cameras">cams</button>
      <button data-act="reset" aria-label="First view">reset</button></div>`;
    this.canvas = root.querySelector("canvas");
    this.canvas.setAttribute("aria-label", this.getAttribute("label") || "A scene in 3-D");
    this.state = root.querySelector(".state");
    root.querySelector(".bar").addEventListener("click", (event) => this.act(event));
    // Contexts of the graphics card are few: one is made when the view comes into sight.
    this.sight = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) this.start();
    });
    this.sight.observe(this);
  }

  disconnectedCallback() {
    this.sight?.disconnect();
    this.size?.disconnect();
    this.renderer?.dispose();
  }

  async start() {
    this.sight.disconnect();
    try {
      this.renderer = new WebGLRenderer({ canvas: this.canvas, antialias: true });
      const { scene } = await new GLTFLoader().loadAsync(this.getAttribute("src"));
      this.fill(scene);
    } catch (error) {
      this.state.textContent = `This scene cannot be shown here (${error.message}).`;
      return;
    }
    this.state.remove();
    this.size = new ResizeObserver(() => this.resize());
    this.size.observe(this);
    this.resize();
    this.setAttribute("data-drawn", String(this.pointCount));
  }

  fill(loaded) {
    this.world = new Scene();
    this.world.background = new Color(BACKGROUND);
    this.camera = new PerspectiveCamera(50, 4 / 3, 0.01, 1000);
    this.frusta = new Group();
    this.clouds = [];
    this.pointCount = 0;
    const cameras = [];
    loaded.traverse((node) => this.dress(node, cameras));
    for (const node of cameras) this.frusta.attach(node);
    this.world.add(loaded, this.frusta);
    this.frame(loaded);
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.addEventListener("change", () => this.draw());
    this.controls.target.copy(this.target);
    this.controls.saveState();
    this.controls.update();
  }

  // Colours are measured ones, so that no light falls on them.
  dress(node, cameras) {
    if (node.isPoints) {
      node.material = new PointsMaterial({ vertexColors: true, size: 1 });
      this.clouds.push(node);
      this.pointCount += node.geometry.attributes.position.count;
    } else if (node.isMesh || node.isLine) {
      const isCamera = `${node.name} ${node.parent?.name}`.includes("camera_");
      node.material = new MeshBasicMaterial({ vertexColors: true, side: DoubleSide });
      if (isCamera) cameras.push(node);
      else this.pointCount += node.geometry.attributes.position.count;
    }
  }

  // From a little behind and above the first photograph's camera, towards the scene's middle.
  frame(loaded) {
    const positions = [];
    loaded.traverse((node) => {
      const points = node.geometry?.attributes.position;
      const step = points ? Math.max(1, Math.floor(points.count / SAMPLES)) : 1;
      for (let i = 0; points && i < points.count; i += step) {
        positions.push(new Vector3().fromBufferAttribute(points, i));
      }
    });
    const middle = (axis) => positions.map((p) => p[axis]).sort((a, b) => a - b)[positions.length >> 1];
    this.target = new Vector3(middle("x"), middle("y"), middle("z"));
    const spread = positions.map((p) => p.distanceTo(this.target)).sort((a, b) => a - b);
    this.extent = spread[Math.floor(spread.length * 0.9)] || 1;
    const back = new Vector3().sub(this.target).setLength(0.55 * this.extent);
    this.home = back.add(new Vector3(0.25 * this.extent, 0.45 * this.extent, 0));
    this.camera.near = this.extent / 200;
    this.camera.far = this.extent * 60;
    this.camera.position.copy(this.home);
    // Points of a surface touch when they are about as wide as they are apart.
    const size = Math.min(this.extent / 15, (4 * this.extent) / Math.sqrt(this.pointCount || 1));
    for (const cloud of this.clouds) cloud.material.size = size;
  }

  act(event) {
    const act = event.target.dataset.act;
    if (!act || !this.controls) return;
    if (act === "reset") this.controls.reset();
    if (act === "cameras") this.frusta.visible = !this.frusta.visible;
    const factor = { larger: 1.4, smaller: 1 / 1.4 }[act] || 1;
    for (const cloud of this.clouds) cloud.material.size *= factor;
    this.draw();
  }

  resize() {
    const { width, height } = this.getBoundingClientRect();
    if (!width || !height) return;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  draw() {
    this.renderer.render(this.world, this.camera);
  }
}

customElements.define("croco3d-view", SceneView);

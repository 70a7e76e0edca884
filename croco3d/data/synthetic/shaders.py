"""GLSL sources of the room renderer.

Every object's materials lie in one row of the float texture `table`, two texels per material
(`scene.material_row`). A model matrix is a uniform, since a fetch per vertex would cost more.
"""

_OBJECT = """
#version 330
in vec3 in_position;
in vec3 in_normal;
in vec2 in_uv;
in float in_material;
uniform sampler2D table;
uniform int object;
uniform mat4 model;
uniform mat4 clip_from_world;
"""

VERTEX = (
    _OBJECT
    + """
uniform vec4 depth_from_world;
out vec3 world;
out vec3 normal;
out vec2 uv;
out float depth;
flat out vec4 paint;
flat out vec4 finish;

void main() {
    vec4 position = model * vec4(in_position, 1.0);
    int material = int(in_material + 0.5);
    paint = texelFetch(table, ivec2(2 * material, object), 0);
    finish = texelFetch(table, ivec2(2 * material + 1, object), 0);
    world = position.xyz;
    normal = mat3(model) * in_normal;
    uv = in_uv * finish.x;
    depth = dot(depth_from_world, position);
    gl_Position = clip_from_world * position;
}
"""
)

SHADOW_VERTEX = (
    _OBJECT
    + """
out vec2 uv;
flat out float layer;

void main() {
    int material = int(in_material + 0.5);
    layer = texelFetch(table, ivec2(2 * material, object), 0).w;
    uv = in_uv * texelFetch(table, ivec2(2 * material + 1, object), 0).x;
    gl_Position = clip_from_world * (model * vec4(in_position, 1.0));
}
"""
)

SHADOW_FRAGMENT = """
#version 330
in vec2 uv;
flat in float layer;
uniform sampler2DArray textures;

void main() {
    if (layer >= 0.0 && texture(textures, vec3(uv, layer)).a < 0.5) discard;
}
"""

FRAGMENT = """
#version 330
in vec3 world;
in vec3 normal;
in vec2 uv;
in float depth;
flat in vec4 paint;
flat in vec4 finish;
uniform sampler2DArray textures;
uniform sampler2D lamp_map;
uniform sampler2D sun_map;
uniform mat4 lamp_clip;
uniform mat4 sun_clip;
uniform vec3 eye;
uniform vec3 room;
uniform vec3 ambient[2];
uniform vec3 light_position[4];
uniform vec3 light_color[4];
uniform int light_count;
uniform vec3 sun_direction;
uniform vec3 sun_color;
uniform vec3 window_corner;
uniform vec3 window_across;
uniform vec3 window_up;
out vec4 color;

float lit(sampler2D map, mat4 clip, vec3 n, float radius, float bias) {
    vec4 p = clip * vec4(world + 0.04 * n, 1.0);
    if (p.w <= 0.0) return 1.0;
    vec3 q = p.xyz / p.w * 0.5 + 0.5;
    if (any(lessThan(q, vec3(0.0))) || any(greaterThan(q, vec3(1.0)))) return 1.0;
    // One jittered tap: averaging the samples of a pixel makes the soft edge.
    vec2 jitter = fract(gl_FragCoord.xy * vec2(0.7549, 0.5698) + gl_FragCoord.yx * 0.3247) - 0.5;
    ivec2 texel = ivec2((q.xy + radius * jitter) * textureSize(map, 0));
    return q.z - bias <= texelFetch(map, texel, 0).r ? 1.0 : 0.0;
}

float through_window() {
    vec3 inward = cross(window_across, window_up);
    float t = dot(world - window_corner, inward) / dot(sun_direction, inward);
    if (t < 0.0) return 0.0;
    vec3 q = world - sun_direction * t - window_corner;
    float a = dot(q, window_across) / dot(window_across, window_across);
    float b = dot(q, window_up) / dot(window_up, window_up);
    vec2 e = smoothstep(vec2(0.0), vec2(0.02), min(vec2(a, b), 1.0 - vec2(a, b)));
    return e.x * e.y;
}

float corner_occlusion(vec3 n) {
    vec3 half_room = vec3(room.xy * 0.5, room.z * 0.5);
    vec3 centered = world - vec3(0.0, 0.0, half_room.z);
    vec3 to_far = half_room - abs(centered);
    vec3 facing = max(-n * sign(centered), 0.0);
    vec3 open = 1.0 - 0.45 * exp(-to_far / 0.35) * (1.0 - facing);
    return open.x * open.y * open.z;
}

void main() {
    vec4 texel = vec4(1.0);
    if (paint.w >= 0.0) {
        texel = texture(textures, vec3(uv, paint.w));
        if (texel.a < 0.5) discard;
    }
    vec3 albedo = texel.rgb * texel.rgb * paint.rgb;
    vec3 view = normalize(eye - world);
    vec3 n = normalize(normal);
    if (dot(n, view) < 0.0) n = -n;
    float gloss = finish.y;
    vec3 diffuse = mix(ambient[1], ambient[0], n.z * 0.5 + 0.5) * corner_occlusion(n);
    vec3 specular = vec3(0.0);
    for (int i = 0; i < light_count; i++) {
        vec3 to_light = light_position[i] - world;
        float d2 = dot(to_light, to_light);
        vec3 l = to_light * inversesqrt(d2);
        float visible = i == 0 ? lit(lamp_map, lamp_clip, n, 0.006, 0.0006) : 1.0;
        vec3 incoming = light_color[i] * visible / (0.25 + d2);
        diffuse += incoming * max(dot(n, l), 0.0);
        if (gloss > 0.02) {
            float highlight = max(dot(n, normalize(l + view)), 0.0);
            for (int k = 0; k < 5; k++) highlight *= highlight;
            specular += incoming * highlight * gloss;
        }
    }
    float incidence = max(dot(n, -sun_direction), 0.0);
    if (dot(sun_color, vec3(1.0)) > 0.0 && incidence > 0.0) {
        float visible = through_window();
        if (visible > 0.0) visible *= lit(sun_map, sun_clip, n, 0.004, 0.004);
        diffuse += sun_color * visible * incidence;
    }
    color = vec4(albedo * (diffuse + finish.z) + specular, depth);
}
"""
